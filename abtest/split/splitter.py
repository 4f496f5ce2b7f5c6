"""Splitter: from a unit to its variants, by hashing alone.

In each layer a unit falls into one of 10,000 slots; the running experiment that owns the slot takes
it, and a second, independent hash picks the variant. Slots can therefore be added to an experiment
without moving anybody already in it, and layers do not influence each other.

What is looked at, in this order: forced units, holdouts, the domain's slots, a kept variant, the
layer's slots, conditions, start and end, the variant.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from abtest.events import Assignment
from abtest.split.arms import clustered, draw, find_kept
from abtest.split.compiled import (
    DOMAIN_PREFIX,
    CompiledDomain,
    CompiledLayer,
    Forced,
    compile_domain,
    compile_domains,
    compile_forced,
    compile_holdout,
)
from abtest.split.config import ExperimentConfig
from abtest.split.experiment import SLOTS, SPLITTING, Parameter


class Split(NamedTuple):
    """What one unit gets, under one version of the configuration."""

    assignments: tuple[Assignment, ...]
    """One a holdout, in their order, then at most one a layer, in the order of the layers."""
    params: Mapping[str, Parameter]
    """Value of every parameter: the variants' where they set one, else what was shipped, else the
    default."""
    config_sha: str
    keep: tuple[tuple[str, str], ...] = ()
    """`KEY@REVISION` and variant of sticky experiments, of those that were not in `kept`."""


class _Request(NamedTuple):
    unit: str
    hashed: bytes
    now_us: int
    attributes: Mapping[str, str]
    kept: Mapping[str, str]


class _Given(NamedTuple):
    """What a request gets, while it is put together."""

    assignments: list[Assignment]
    params: dict[str, Parameter]
    keep: list[tuple[str, str]]


class Splitter:
    """An experiment configuration compiled for assignment; immutable, so share it freely."""

    __slots__ = (
        "_domains",
        "_forced",
        "_holdouts",
        "_nowhere",
        "_plain",
        "config",
        "config_sha",
        "sticky",
    )

    def __init__(self, config: ExperimentConfig) -> None:
        """Compile a configuration."""
        self.config: Final = config
        self.config_sha: Final = config.sha
        self.sticky: Final = any(
            experiment.sticky and experiment.state in SPLITTING
            for experiment in config.experiments()
        )
        """Whether `assign` needs `kept`."""
        domains = tuple(compile_domain(config, domain) for domain in config.domains)
        self._nowhere: Final = CompiledDomain(config.defaults, ())
        self._domains: Final = compile_domains(config, domains, self._nowhere)
        self._holdouts: Final = tuple(compile_holdout(holdout) for holdout in config.holdouts)
        self._forced: Final = compile_forced(config, domains)
        self._plain: Final = (
            not self._holdouts
            and not self._forced
            and len(self._domains) == 1
            and all(layer.plain for layer in self._domains[0].layers)
        )

    def assign(
        self,
        unit: str,
        *,
        now_us: int,
        attributes: Mapping[str, str] = {},
        kept: Mapping[str, str] = {},
    ) -> Split:
        """Assign a unit; the same arguments and configuration always give the same split.

        Args:
            unit: the user's id.
            now_us: current time, microseconds since the Unix epoch.
            attributes: the request's context.
            kept: the user's variants of sticky experiments by `KEY@REVISION`, as `Split.keep` gave
                them before; needed where `sticky` says so.
        """
        # Tuples are made by `_make`: that costs half of what the call with arguments does.
        hashed = unit.encode()
        if self._plain:
            return self._assign_by_hash(hashed)
        request = _Request._make((unit, hashed, now_us, attributes, kept))
        forced = self._find_forced(request) if self._forced else {}
        assignments, held = self._hold(hashed, bool(forced)) if self._holdouts else ([], False)
        domain = self._domain(hashed, forced)
        params = dict(self._nowhere.base if held else domain.base)
        given = _Given._make((assignments, params, []))
        for layer in domain.layers:
            if layer.name in forced:
                assignments.append(forced[layer.name].assignment)
            elif not held:
                _assign_layer(layer, request, given)
        for chosen in forced.values():
            params.update(chosen.params)
        return Split._make((tuple(assignments), params, self.config_sha, tuple(given.keep)))

    def _assign_by_hash(self, hashed: bytes) -> Split:
        """The usual case: nothing but slots and weights decides."""
        base, layers = self._domains[0]
        assignments = []
        params = dict(base)
        for _, _, prefix, arms, owners, _, _ in layers:
            if arms is None:
                arms = owners[xxh3_64_intdigest(prefix + hashed) % SLOTS]
                if arms is None:
                    continue
            arm = bisect_right(arms.cuts, xxh3_64_intdigest(arms.prefix + hashed))
            assignments.append(arms.assignments[arm])
            params.update(arms.params[arm])
        return Split._make((tuple(assignments), params, self.config_sha, ()))

    def _find_forced(self, request: _Request) -> dict[str, Forced]:
        """What is forced on a unit, by layer; all of one domain, the first in the configuration."""
        found: dict[str, Forced] = {}
        for field, by_unit in self._forced:
            unit = request.unit if field is None else request.attributes.get(field, "")
            for forced in by_unit.get(unit, ()):
                if all(other.domain is forced.domain for other in found.values()):
                    found[forced.layer] = forced
        return found

    def _hold(self, hashed: bytes, forced: bool) -> tuple[list[Assignment], bool]:
        """Assignments to the holdouts, and whether one holds; testers belong to neither arm."""
        assignments = []
        held = False
        for holdout in self._holdouts:
            inside = xxh3_64_intdigest(holdout.prefix + hashed) < holdout.cut
            given = holdout.held if inside else holdout.open
            assignments.append(given.model_copy(update={"forced": True}) if forced else given)
            held = held or inside
        return assignments, held

    def _domain(self, hashed: bytes, forced: Mapping[str, Forced]) -> CompiledDomain:
        for chosen in forced.values():
            return chosen.domain
        if len(self._domains) == 1:
            return self._domains[0]
        return self._domains[xxh3_64_intdigest(DOMAIN_PREFIX + hashed) % SLOTS]


def _assign_layer(layer: CompiledLayer, request: _Request, given: _Given) -> None:
    unit, hashed = request.unit, request.hashed
    if layer.field is not None:
        unit = request.attributes.get(layer.field, "")
        if not unit:
            return
        hashed = unit.encode()
    found = find_kept(layer.sticky, request.kept, request.now_us) if layer.sticky else None
    if found is None:
        slot = 0 if layer.whole else xxh3_64_intdigest(layer.prefix + hashed) % SLOTS
        arms = layer.owners[slot]
        if arms is None:
            return
        arm = draw(arms, unit, hashed, request.now_us, request.attributes)
        if arm < 0:
            return
        if arms.keeps:
            given.keep.append((arms.keeps, arms.assignments[arm].variant))
    else:
        arms, arm = found
    if layer.field is not None or arms.period_us:
        given.assignments.append(clustered(arms, arm, unit, request.now_us))
    else:
        given.assignments.append(arms.assignments[arm])
    given.params.update(arms.params[arm])
