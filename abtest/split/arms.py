"""Arms: an experiment compiled, so that a draw costs two hashes."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from abtest.events import Assignment
from abtest.split import growthbook
from abtest.split.condition import Matcher, matcher
from abtest.split.config import Layer
from abtest.split.experiment import Experiment, Parameter, State

HASHES = 1 << 64
_SEPARATOR = "\x1f"
_ALWAYS_US = 1 << 63


class Gb2(NamedTuple):
    """What picks a variant in the way of GrowthBook."""

    seed_state: int
    table: bytes
    namespace: tuple[Sequence[int], growthbook.Range] | None


class Arms(NamedTuple):
    """An experiment whose units are drawn by its hash."""

    prefix: bytes
    cuts: tuple[int, ...]
    assignments: tuple[Assignment, ...]
    params: tuple[Mapping[str, Parameter], ...]
    always: bool
    """Decided by its hash alone: no times, conditions, periods, kept variants, GrowthBook."""
    start_us: int
    end_us: int
    matches: Matcher | None
    period_us: int
    """Of a switchback, else 0."""
    gb2: Gb2 | None
    keeps: str
    """`KEY@REVISION` of a sticky experiment, else empty."""


def prefix(*parts: str) -> bytes:
    """What a unit is hashed with; the parts stand apart, so that no two lists give one prefix."""
    return "".join(part + _SEPARATOR for part in parts).encode()


def kept_key(experiment: Experiment) -> str:
    """Under which a unit's variant of a sticky experiment is kept: `KEY@REVISION`."""
    return f"{experiment.key}@{experiment.revision}"


def compile_arms(layer: Layer, experiment: Experiment, hash_name: str) -> Arms:
    """Compile an experiment of a state that splits."""
    shares = list(accumulate(variant.weight for variant in experiment.variants))
    switchback = experiment.switchback
    gb2 = _compile_gb2(experiment) if hash_name == "gb2" and switchback is None else None
    always = not (
        gb2
        or switchback
        or experiment.sticky
        or experiment.when
        or experiment.start
        or experiment.end
    )
    return Arms(
        prefix=prefix(layer.seed, experiment.key, str(experiment.revision), "variant"),
        cuts=tuple(round(share * HASHES) for share in shares[:-1]),
        assignments=tuple(
            Assignment(
                layer=layer.name,
                key=experiment.key,
                revision=experiment.revision,
                variant=variant.name,
                propensity=variant.weight,
            )
            for variant in experiment.variants
        ),
        params=_params(experiment),
        always=always,
        start_us=_time_us(experiment.start, -_ALWAYS_US),
        end_us=_time_us(experiment.end, _ALWAYS_US),
        matches=matcher(experiment.when),
        period_us=0 if switchback is None else switchback.period_min * 60 * 10**6,
        gb2=gb2,
        keeps=kept_key(experiment) if experiment.sticky else "",
    )


def _params(experiment: Experiment) -> tuple[Mapping[str, Parameter], ...]:
    control = experiment.variant(experiment.control)
    alike = experiment.state is State.AA
    return tuple((control if alike else variant).params for variant in experiment.variants)


def _time_us(time: datetime | None, without: int) -> int:
    """Microseconds since the Unix epoch, without the rounding of floats."""
    if time is None:
        return without
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds


def _compile_gb2(experiment: Experiment) -> Gb2:
    weights = [variant.weight for variant in experiment.variants]
    coverage = 1.0 if experiment.coverage is None else experiment.coverage
    space = experiment.namespace
    return Gb2(
        seed_state=growthbook.fnv1a(growthbook.code_units(experiment.seed or experiment.key)),
        table=growthbook.bucket_table(growthbook.bucket_ranges(weights, coverage)),
        namespace=space and (growthbook.code_units("__" + space[0]), (space[1], space[2])),
    )


def draw(arms: Arms, unit: str, hashed: bytes, now_us: int, attributes: Mapping[str, str]) -> int:
    """Index of a unit's arm; -1 where conditions, times or GrowthBook's coverage leave it out."""
    if not arms.always:
        if arms.matches is not None and not arms.matches(attributes):
            return -1
        if not arms.start_us <= now_us < arms.end_us:
            return -1
        if arms.gb2 is not None:
            return _draw_gb2(arms.gb2, unit)
        if arms.period_us:
            hashed = b"%d" % (now_us // arms.period_us)
    return bisect_right(arms.cuts, xxh3_64_intdigest(arms.prefix + hashed))


def _draw_gb2(gb2: Gb2, unit: str) -> int:
    if not unit:
        return -1
    units = growthbook.code_units(unit)
    if gb2.namespace is not None and not growthbook.in_namespace(units, *gb2.namespace):
        return -1
    arm = gb2.table[growthbook.bucket(gb2.seed_state, units)]
    return -1 if arm == growthbook.OUTSIDE else arm


def find_kept(
    sticky: Sequence[Arms], kept: Mapping[str, str], now_us: int
) -> tuple[Arms, int] | None:
    """The arm that a unit keeps, of experiments that have begun and are not over."""
    for arms in sticky:
        name = kept.get(arms.keeps)
        if name is not None and arms.start_us <= now_us < arms.end_us:
            for arm, assignment in enumerate(arms.assignments):
                if assignment.variant == name:
                    return arms, arm
    return None


def clustered(arms: Arms, arm: int, unit: str, now_us: int) -> Assignment:
    """The assignment to an arm, with its cluster.

    That is the unit where it is not the user, and of a switchback the period: ISO 8601 in UTC.
    """
    assignment = arms.assignments[arm]
    cluster = unit
    if arms.period_us:
        began_us = now_us // arms.period_us * arms.period_us
        cluster = datetime.fromtimestamp(began_us // 10**6, UTC).isoformat()
    return Assignment(
        layer=assignment.layer,
        key=assignment.key,
        revision=assignment.revision,
        variant=assignment.variant,
        propensity=assignment.propensity,
        cluster=cluster,
    )
