"""Consistency: what experiments of one layer, domain or configuration may not contradict in."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from abtest.split.experiment import HOLDOUT, Experiment, Parameter, State
from abtest.split.part import LARGEST_INTEGER, check_unique

LONGEST_VALUE = 1000
"""Most characters of a parameter's value."""


def check_layer(name: str, by_user: bool, experiments: Sequence[Experiment]) -> None:
    """Check that experiments can share a layer.

    Raises:
        ValueError: they cannot.
    """
    if name == HOLDOUT:
        raise ValueError(f"layer {name}: the name is kept for holdouts; choose another")
    _check_slots(name, experiments)
    _check_shipped(name, experiments)
    for experiment in experiments:
        if experiment.sticky and not by_user:
            raise ValueError(
                f"layer {name}, experiment {experiment.key}: sticky is of layers whose unit is "
                "user_id, because variants are kept by user; remove it"
            )
    owner: dict[str, str] = {}
    for experiment in experiments:
        for unit in experiment.force:
            if owner.setdefault(unit, experiment.key) != experiment.key:
                raise ValueError(
                    f"layer {name}: {owner[unit]} and {experiment.key} both force {unit!r}; "
                    "experiments of a layer exclude each other, remove it from one"
                )


def _check_slots(name: str, experiments: Sequence[Experiment]) -> None:
    held = sorted(
        (first, end, experiment.key)
        for experiment in experiments
        if experiment.state is not State.DRAFT
        for first, end in experiment.slots
    )
    for left, right in pairwise(held):
        if right[0] < left[1]:
            raise ValueError(
                f"layer {name}: {left[2]} holds slots {left[0]}..{left[1]} "
                f"and {right[2]} {right[0]}..{right[1]}; slots of one layer must not overlap, "
                "give one other slots, or remove one that ended"
            )


def _check_shipped(name: str, experiments: Sequence[Experiment]) -> None:
    setter: dict[str, str] = {}
    for experiment in experiments:
        if experiment.state is State.SHIPPED and experiment.winner is not None:
            for parameter in experiment.variant(experiment.winner).params:
                if setter.setdefault(parameter, experiment.key) != experiment.key:
                    raise ValueError(
                        f"layer {name}: {setter[parameter]} and {experiment.key} are shipped and "
                        f"both set {parameter}; put the value into [defaults] and remove the "
                        "older one"
                    )


def check_domain(name: str, layers: Sequence[tuple[str, str]]) -> None:
    """Check names and seeds of a domain's layers.

    Raises:
        ValueError: one occurs twice.
    """
    names = [layer for layer, _ in layers]
    for layer in names:
        if names.count(layer) > 1:
            raise ValueError(f"layer {layer}: layer names must be unique; rename one")
    check_unique(f"domain {name}", "seeds of layers", [seed for _, seed in layers])


def check_forced(experiments: Iterable[tuple[str, Experiment]]) -> None:
    """Check that no unit is forced in two domains; experiments come with their domain's name.

    Raises:
        ValueError: one is.
    """
    owner: dict[str, str] = {}
    for domain, experiment in experiments:
        for unit in experiment.force:
            if owner.setdefault(unit, domain) != domain:
                raise ValueError(
                    f"unit {unit!r} is forced in domains {owner[unit]} and {domain}; a unit is "
                    "in one domain, remove it from the experiments of one"
                )


def check_hash_fields(experiment: Experiment) -> None:
    """Check that an experiment of hash xxh3 has no field of hash gb2.

    Raises:
        ValueError: it has.
    """
    for name in ("seed", "coverage", "namespace"):
        value = getattr(experiment, name)
        if value is not None:
            raise ValueError(
                f"experiment {experiment.key}: {name} = {value!r} means something with "
                'hash = "gb2" only; remove it (the layer has the seed, slots are the share)'
            )


def check_values(where: str, params: Mapping[str, Parameter]) -> None:
    """Check that values of parameters are of bounded size.

    Raises:
        ValueError: one is not.
    """
    for name, value in params.items():
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            raise ValueError(
                f"{where}: parameter {name} has {len(value)} characters, at most "
                f"{LONGEST_VALUE} are allowed; shorten it"
            )
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise ValueError(
                f"{where}: parameter {name} = {value} must be in "
                f"[-{LARGEST_INTEGER}, {LARGEST_INTEGER}]; use a string"
            )
