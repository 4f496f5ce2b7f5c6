"""Compiled: layers, domains, holdouts and forced units in the form that assignment reads."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from abtest.events import Assignment
from abtest.split.arms import HASHES, Arms, compile_arms, prefix
from abtest.split.config import USER_ID, Domain, ExperimentConfig, Holdout, Layer
from abtest.split.experiment import HELD, HOLDOUT, OPEN, SLOTS, SPLITTING, Parameter, State

DOMAIN_PREFIX: Final = prefix("domain")


class CompiledLayer(NamedTuple):
    """A layer by its slots."""

    name: str
    field: str | None
    """The field of the context whose value is the unit; None for the user."""
    prefix: bytes
    whole: Arms | None
    """The experiment that holds every slot: no unit needs a slot then."""
    owners: tuple[Arms | None, ...]
    """The experiment of each slot, of those that split."""
    sticky: tuple[Arms, ...]
    plain: bool
    """Split by the user and hashes alone."""


class CompiledDomain(NamedTuple):
    """A domain's layers, and the parameters of those whom no experiment decides."""

    base: Mapping[str, Parameter]
    layers: tuple[CompiledLayer, ...]


class Forced(NamedTuple):
    """What is forced on a unit in a layer."""

    domain: CompiledDomain
    layer: str
    assignment: Assignment
    params: Mapping[str, Parameter]


class ForcedUnits(NamedTuple):
    """Forced units of the layers that are split by one field."""

    field: str | None
    by_unit: Mapping[str, tuple[Forced, ...]]


class CompiledHoldout(NamedTuple):
    """A holdout; whose hash is below `cut` is held."""

    prefix: bytes
    cut: int
    held: Assignment
    open: Assignment


def compile_domains(
    config: ExperimentConfig, domains: tuple[CompiledDomain, ...], nowhere: CompiledDomain
) -> tuple[CompiledDomain, ...]:
    """The domain of each slot; a single one where it has every slot, or there is none."""
    owners = [nowhere] * SLOTS
    for domain, compiled in zip(config.domains, domains, strict=True):
        first, end = domain.slots
        owners[first:end] = [compiled] * (end - first)
    return (owners[0],) if owners.count(owners[0]) == SLOTS else tuple(owners)


def compile_domain(config: ExperimentConfig, domain: Domain) -> CompiledDomain:
    """Compile a domain; what was shipped in it stands over the defaults."""
    base = dict(config.defaults)
    for layer in domain.layers:
        for experiment in layer.experiments:
            if experiment.state is State.SHIPPED and experiment.winner is not None:
                base.update(experiment.variant(experiment.winner).params)
    layers = tuple(_compile_layer(layer, config.hash) for layer in domain.layers)
    return CompiledDomain(base, layers)


def _compile_layer(layer: Layer, hash_name: str) -> CompiledLayer:
    owners: list[Arms | None] = [None] * SLOTS
    running = []
    sticky = []
    for experiment in layer.experiments:
        if experiment.state in SPLITTING:
            arms = compile_arms(layer, experiment, hash_name)
            running.append(arms)
            for first, end in experiment.slots:
                owners[first:end] = [arms] * (end - first)
            if experiment.sticky:
                sticky.append(arms)
    field = None if layer.unit == USER_ID else layer.unit
    return CompiledLayer(
        name=layer.name,
        field=field,
        prefix=prefix(layer.seed, "slot"),
        whole=owners[0] if owners.count(owners[0]) == SLOTS else None,
        owners=tuple(owners),
        sticky=tuple(sticky),
        plain=field is None and all(arms.always for arms in running),
    )


def compile_holdout(holdout: Holdout) -> CompiledHoldout:
    """Compile a holdout."""
    held, opened = (
        Assignment(
            layer=HOLDOUT,
            key=holdout.key,
            revision=holdout.revision,
            variant=variant,
            propensity=propensity,
        )
        for variant, propensity in ((HELD, holdout.share), (OPEN, 1 - holdout.share))
    )
    cut = round(holdout.share * HASHES)
    return CompiledHoldout(prefix(holdout.seed, "holdout"), cut, held, opened)


def compile_forced(
    config: ExperimentConfig, domains: tuple[CompiledDomain, ...]
) -> tuple[ForcedUnits, ...]:
    """Compile every experiment's `force`, in whatever state it is."""
    found: dict[str | None, dict[str, tuple[Forced, ...]]] = {}
    for domain, compiled in zip(config.domains, domains, strict=True):
        for layer, compiled_layer in zip(domain.layers, compiled.layers, strict=True):
            by_unit = found.setdefault(compiled_layer.field, {})
            for experiment in layer.experiments:
                for unit, name in experiment.force.items():
                    given = Assignment(
                        layer=layer.name,
                        key=experiment.key,
                        revision=experiment.revision,
                        variant=name,
                        propensity=1.0,
                        forced=True,
                    )
                    forced = Forced(compiled, layer.name, given, experiment.variant(name).params)
                    by_unit[unit] = (*by_unit.get(unit, ()), forced)
    return tuple(ForcedUnits(field, units) for field, units in found.items() if units)
