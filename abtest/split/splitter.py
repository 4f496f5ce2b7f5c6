"""Splitter: from a unit to its variants, by hashing alone.

In each layer a unit falls into one of 10,000 slots; the running experiment that owns the slot takes
it, and a second, independent hash picks the variant. Slots can therefore be added to an experiment
without moving anybody already in it, and layers do not influence each other.
"""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from abtest.events import Assignment
from abtest.split.config import ExperimentConfig, Layer
from abtest.split.experiment import SLOTS, Experiment, Parameter, State

_HASHES = 1 << 64
_SEPARATOR = "\x1f"


class Split(NamedTuple):
    """What one unit gets, under one version of the configuration."""

    assignments: tuple[Assignment, ...]
    """At most one a layer, in the order of the layers."""
    params: Mapping[str, Parameter]
    """Value of every parameter: the variants' where they set one, else the default."""
    config_sha: str


class _Arms(NamedTuple):
    prefix: bytes
    cuts: tuple[int, ...]
    assignments: tuple[Assignment, ...]
    params: tuple[Mapping[str, Parameter], ...]


class _Slots(NamedTuple):
    prefix: bytes
    owners: tuple[_Arms | None, ...]


class Splitter:
    """An experiment configuration compiled for assignment; immutable, so share it freely."""

    __slots__ = ("_layers", "config", "config_sha")

    def __init__(self, config: ExperimentConfig) -> None:
        """Compile a configuration."""
        self.config: Final = config
        self.config_sha: Final = config.sha
        self._layers: Final = tuple(
            _compile_layer(layer) for domain in config.domains for layer in domain.layers
        )

    def assign(self, unit: str) -> Split:
        """Assign a unit; the same unit and configuration always give the same split."""
        assignments: list[Assignment] = []
        params = dict(self.config.defaults)
        hashed = unit.encode()
        for prefix, owners in self._layers:
            arms = owners[xxh3_64_intdigest(prefix + hashed) % SLOTS]
            if arms is not None:
                arm = bisect_right(arms.cuts, xxh3_64_intdigest(arms.prefix + hashed))
                assignments.append(arms.assignments[arm])
                params.update(arms.params[arm])
        return Split(tuple(assignments), params, self.config_sha)


def _compile_layer(layer: Layer) -> _Slots:
    owners: list[_Arms | None] = [None] * SLOTS
    for experiment in layer.experiments:
        if experiment.state is State.RUNNING:
            for first, end in experiment.slots:
                owners[first:end] = [_compile_experiment(layer, experiment)] * (end - first)
    return _Slots(_prefix(layer.seed, "slot"), tuple(owners))


def _compile_experiment(layer: Layer, experiment: Experiment) -> _Arms:
    shares = list(accumulate(variant.weight for variant in experiment.variants))
    return _Arms(
        prefix=_prefix(layer.seed, experiment.key, str(experiment.revision), "variant"),
        cuts=tuple(round(share * _HASHES) for share in shares[:-1]),
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
        params=tuple(variant.params for variant in experiment.variants),
    )


def _prefix(*parts: str) -> bytes:
    return "".join(part + _SEPARATOR for part in parts).encode()
