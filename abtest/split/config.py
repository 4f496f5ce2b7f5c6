"""Experiment configuration: everything that decides which user gets what.

Traffic is cut into domains, a domain has layers, a layer has experiments that exclude each other;
different layers are independent (Tang et al. 2010, *Overlapping Experiment Infrastructure*). A
parameter belongs to exactly one layer of a domain, so that two experiments can never both decide it
(Bakshy et al. 2014, *PlanOut*).
"""

import hashlib
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from abtest.split.experiment import SLOTS, Experiment, ExperimentError, Frozen, Parameter, State

USER_ID = "user_id"
"""The unit of a layer, unless it names a field of the request's context."""
WHOLE = "all"
"""The domain of a configuration that names none."""


class Layer(Frozen):
    """Experiments that exclude each other; different layers are independent."""

    name: str = Field(min_length=1)
    unit: str = USER_ID
    """`user_id`, or a field of the request's context; without the field nobody is split."""
    seed: str = Field(min_length=1)
    experiments: tuple[Experiment, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        held = sorted(
            (first, end, experiment.key)
            for experiment in self.experiments
            if experiment.state is not State.DRAFT
            for first, end in experiment.slots
        )
        for left, right in pairwise(held):
            if right[0] < left[1]:
                raise ValueError(
                    f"layer {self.name}: {left[2]} holds slots {left[0]}..{left[1]} "
                    f"and {right[2]} {right[0]}..{right[1]}; slots of one layer must not overlap"
                )
        return self


class Domain(Frozen):
    """A part of the traffic with layers of its own; a user is in one domain."""

    name: str = Field(min_length=1)
    slots: tuple[int, int]
    layers: tuple[Layer, ...] = ()


class Holdout(Frozen):
    """Users whom no experiment touches and nothing shipped reaches, to measure all of it together.

    It is reported like an experiment, with the variants `held` (the control) and `open`.
    """

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")
    revision: int = Field(default=1, ge=1)
    seed: str = Field(min_length=1)
    share: float = Field(gt=0, lt=1)
    """Of all users; a larger share keeps those who are held already."""


class ExperimentConfig(Frozen):
    """Everything that decides a split. Parameters of a variant override `defaults`."""

    version: Literal[1]
    hash: Literal["xxh3", "gb2"] = "xxh3"
    """`gb2` gives the buckets of GrowthBook's SDKs (hash version 2)."""
    defaults: dict[str, Parameter]
    """Value of every parameter for traffic that no experiment decides."""
    holdouts: tuple[Holdout, ...] = ()
    domains: tuple[Domain, ...] = ()
    """At the top level, `layers` alone is short for one domain with all slots."""

    @model_validator(mode="before")
    @classmethod
    def _layers_may_stand_alone(cls, raw: Any) -> Any:  # noqa: ANN401  # not checked yet
        if not isinstance(raw, dict) or "layers" not in raw:
            return raw
        if "domains" in raw:
            raise ValueError("layers stand alone or in domains; move them into a domain")
        whole = {"name": WHOLE, "slots": (0, SLOTS), "layers": raw["layers"]}
        return {**{k: v for k, v in raw.items() if k != "layers"}, "domains": (whole,)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        keys: set[str] = set()
        for domain in self.domains:
            owner: dict[str, str] = {}
            for layer in domain.layers:
                if sum(other.name == layer.name for other in domain.layers) > 1:
                    raise ValueError(f"layer {layer.name}: layer names must be unique")
                for experiment in layer.experiments:
                    if experiment.key in keys:
                        raise ValueError(f"experiment {experiment.key}: keys must be unique")
                    keys.add(experiment.key)
                    for variant in experiment.variants:
                        for name, value in variant.params.items():
                            self._check_parameter(experiment.key, name, value)
                            if owner.setdefault(name, layer.name) != layer.name:
                                raise ValueError(
                                    f"parameter {name} is set in layers {owner[name]} and "
                                    f"{layer.name}; a parameter belongs to one layer"
                                )
        return self

    def _check_parameter(self, key: str, name: str, value: Parameter) -> None:
        if name not in self.defaults:
            raise ValueError(
                f"experiment {key}: parameter {name} has no value in [defaults]; "
                f"declared are {sorted(self.defaults)}"
            )
        expected, got = type(self.defaults[name]).__name__, type(value).__name__
        if expected != got:
            raise ValueError(
                f"experiment {key}: parameter {name} = {value!r} is {got}, "
                f"its default is {expected}"
            )

    def experiments(self) -> Iterator[Experiment]:
        """Every experiment of every layer of every domain."""
        for domain in self.domains:
            for layer in domain.layers:
                yield from layer.experiments

    @property
    def sha(self) -> str:
        """Short hash of the configuration's content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def experiment(self, key: str) -> Experiment:
        """The experiment named `key`.

        Raises:
            ExperimentError: there is none.
        """
        known = {experiment.key: experiment for experiment in self.experiments()}
        if key not in known:
            raise ExperimentError(f"no experiment {key!r}; known are {sorted(known)}")
        return known[key]


def parse_config(text: str, source: str = "experiments") -> ExperimentConfig:
    """Validate a configuration written in TOML.

    Raises:
        ExperimentError: it is not TOML, has an unknown key, or breaks a rule.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{source} is not valid TOML: {error}") from error
    try:
        return ExperimentConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ExperimentError(f"{source}: {where + ': ' if where else ''}{message}") from error


def load_config(path: Path) -> ExperimentConfig:
    """Read and validate a configuration file.

    Raises:
        ExperimentError: the file is missing or breaks a rule.
    """
    if not path.is_file():
        raise ExperimentError(f"{path} does not exist; write one, or run `cascade demo` to get one")
    return parse_config(path.read_text(), str(path))
