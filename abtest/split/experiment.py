"""Experiment configuration: layers, experiments, variants and the parameters they set.

Read from TOML, validated whole, frozen. A parameter belongs to exactly one layer, so that two
experiments can never both decide it (PlanOut, Bakshy et al. 2014).
"""

import hashlib
import tomllib
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SLOTS = 10_000
"""Slots of a layer; an experiment owns a range of them and is ramped by adding slots."""

Parameter = str | int | float | bool


class ExperimentError(ValueError):
    """A configuration that cannot be used; the message names place, value, rule and remedy."""


class State(StrEnum):
    """Life of an experiment."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Frozen):
    """One arm: its share of the experiment's traffic and the parameters it sets."""

    name: str = Field(min_length=1, max_length=100)
    weight: float = Field(gt=0, le=1)
    params: dict[str, Parameter] = {}


class Experiment(_Frozen):
    """A comparison of variants on a range of its layer's slots."""

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")
    revision: int = Field(ge=1)
    state: State = State.DRAFT
    slots: tuple[int, int] = (0, SLOTS)
    """First slot and one past the last."""
    control: str
    """Name of the variant the others are compared with."""
    variants: tuple[Variant, ...] = Field(min_length=2)
    primary_metric: str = "revenue_per_unit"

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError(f"experiment {self.key}: variant names {names} must be unique")
        if self.control not in names:
            raise ValueError(
                f"experiment {self.key}: control {self.control!r} must be one of {names}"
            )
        total = sum(variant.weight for variant in self.variants)
        if abs(total - 1) > 1e-9:
            weights = " + ".join(f"{variant.weight:g}" for variant in self.variants)
            raise ValueError(f"experiment {self.key}: weights {weights} = {total:g} must sum to 1")
        first, end = self.slots
        if not 0 <= first < end <= SLOTS:
            raise ValueError(
                f"experiment {self.key}: slots {first}..{end} must satisfy "
                f"0 <= first < end <= {SLOTS}"
            )
        return self


class Layer(_Frozen):
    """Experiments that exclude each other; different layers are independent."""

    name: str = Field(min_length=1)
    unit: Literal["user_id"] = "user_id"
    seed: str = Field(min_length=1)
    experiments: tuple[Experiment, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        active = sorted(
            (e for e in self.experiments if e.state is not State.DRAFT), key=lambda e: e.slots
        )
        for left, right in pairwise(active):
            if right.slots[0] < left.slots[1]:
                raise ValueError(
                    f"layer {self.name}: {left.key} holds slots {left.slots[0]}..{left.slots[1]} "
                    f"and {right.key} {right.slots[0]}..{right.slots[1]}; "
                    "slots of one layer must not overlap"
                )
        return self


class ExperimentConfig(_Frozen):
    """All layers. Parameters of a variant override `defaults`."""

    version: Literal[1]
    defaults: dict[str, Parameter]
    """Value of every parameter for traffic that no experiment decides."""
    layers: tuple[Layer, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        owner: dict[str, str] = {}
        keys: set[str] = set()
        for layer in self.layers:
            if sum(other.name == layer.name for other in self.layers) > 1:
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

    @property
    def sha(self) -> str:
        """Short hash of the configuration's content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def experiment(self, key: str) -> Experiment:
        """The experiment named `key`.

        Raises:
            ExperimentError: there is none.
        """
        known = {e.key: e for layer in self.layers for e in layer.experiments}
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
