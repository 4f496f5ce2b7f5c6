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

from abtest.split.consistency import (
    check_domain,
    check_forced,
    check_hash_fields,
    check_layer,
    check_values,
)
from abtest.split.experiment import Experiment, ExperimentError, Parameter
from abtest.split.part import (
    SLOTS,
    Frozen,
    Key,
    Name,
    Seed,
    Slots,
    Value,
    check_slots,
    check_unique,
)

USER_ID = "user_id"
"""The unit of a layer, unless it names a field of the request's context."""
WHOLE = "all"
"""The domain of a configuration that names none."""
EXPERIMENTS = 200
"""Most experiments of a configuration."""


class Layer(Frozen):
    """Experiments that exclude each other; different layers are independent."""

    name: Name
    unit: Name = USER_ID
    """`user_id`, or a field of the request's context; without the field nobody is split."""
    seed: Seed
    """Of its own in the domain; layers of one seed would not be independent."""
    experiments: tuple[Experiment, ...] = Field(default=(), max_length=EXPERIMENTS)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_layer(self.name, self.unit == USER_ID, self.experiments)
        return self


class Domain(Frozen):
    """A part of the traffic with layers of its own; a user is in one domain."""

    name: Name
    slots: Slots
    layers: tuple[Layer, ...] = Field(default=(), max_length=100)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_slots(f"domain {self.name}", [self.slots])
        check_domain(self.name, [(layer.name, layer.seed) for layer in self.layers])
        return self


class Holdout(Frozen):
    """Users whom no experiment touches and nothing shipped reaches, to measure all of it together.

    It is reported like an experiment, with the variants `held` (the control) and `open`.
    """

    key: Key
    revision: int = Field(default=1, ge=1, le=10**6)
    seed: Seed
    share: float = Field(gt=0, lt=1)
    """Of all users; a larger share keeps those who are held already."""


class ExperimentConfig(Frozen):
    """Everything that decides a split. Parameters of a variant override `defaults`."""

    version: Literal[1]
    hash: Literal["xxh3", "gb2"] = "xxh3"
    """What picks the variant. `gb2` gives the buckets of GrowthBook's SDKs (hash version 2); slots,
    domains, holdouts and switchbacks are not of GrowthBook and hashed by xxh3 in any case."""
    traffic: Literal["live", "replay"] = "live"
    """`replay` where logged purchases are replayed: reports then say what that cannot show."""
    defaults: dict[Name, Value] = Field(max_length=200)
    """Value of every parameter for traffic that no experiment decides."""
    holdouts: tuple[Holdout, ...] = Field(default=(), max_length=10)
    domains: tuple[Domain, ...] = Field(default=(), max_length=20)
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
        check_values("defaults", self.defaults)
        _check_keys(self)
        _check_domains(self)
        check_forced(self.domains_experiments())
        for experiment in self.experiments():
            if self.hash != "gb2":
                check_hash_fields(experiment)
            for variant in experiment.variants:
                check_values(f"experiment {experiment.key}", variant.params)
        for domain in self.domains:
            _check_parameters(self.defaults, domain)
        return self

    def domains_experiments(self) -> Iterator[tuple[str, Experiment]]:
        """Every experiment, with the name of its domain."""
        for domain in self.domains:
            for layer in domain.layers:
                for experiment in layer.experiments:
                    yield domain.name, experiment

    def experiments(self) -> Iterator[Experiment]:
        """Every experiment of every layer of every domain."""
        for _, experiment in self.domains_experiments():
            yield experiment

    @property
    def sha(self) -> str:
        """Short hash of the configuration's content; what is left at its default is not in it."""
        content = self.model_dump_json(exclude_defaults=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def experiment(self, key: str) -> Experiment:
        """The experiment named `key`.

        Raises:
            ExperimentError: there is none.
        """
        known = {experiment.key: experiment for experiment in self.experiments()}
        if key not in known:
            raise ExperimentError(f"no experiment {key!r}; known are {sorted(known)}")
        return known[key]


def _check_keys(config: ExperimentConfig) -> None:
    keys: set[str] = set()
    for experiment in config.experiments():
        if experiment.key in keys:
            raise ValueError(f"experiment {experiment.key}: keys must be unique; rename one")
        keys.add(experiment.key)
    if len(keys) > EXPERIMENTS:
        raise ValueError(
            f"{len(keys)} experiments must be at most {EXPERIMENTS}; remove those that ended"
        )
    for holdout in config.holdouts:
        if holdout.key in keys:
            raise ValueError(
                f"holdout {holdout.key}: keys of holdouts and experiments must be unique; "
                "rename one"
            )
        keys.add(holdout.key)
    check_unique("holdouts", "seeds", [holdout.seed for holdout in config.holdouts])


def _check_domains(config: ExperimentConfig) -> None:
    check_unique("domains", "names", [domain.name for domain in config.domains])
    held = sorted((*domain.slots, domain.name) for domain in config.domains)
    for left, right in pairwise(held):
        if right[0] < left[1]:
            raise ValueError(
                f"domain {left[2]} holds slots {left[0]}..{left[1]} and {right[2]} "
                f"{right[0]}..{right[1]}; slots of domains must not overlap, give one others"
            )


def _check_parameters(defaults: dict[str, Parameter], domain: Domain) -> None:
    owner: dict[str, str] = {}
    for layer in domain.layers:
        for experiment in layer.experiments:
            for variant in experiment.variants:
                for name, value in variant.params.items():
                    _check_parameter(defaults, experiment.key, name, value)
                    if owner.setdefault(name, layer.name) != layer.name:
                        raise ValueError(
                            f"parameter {name} is set in layers {owner[name]} and {layer.name}; "
                            "a parameter belongs to one layer, move the experiments into one"
                        )


def _check_parameter(defaults: dict[str, Parameter], key: str, name: str, value: Parameter) -> None:
    if name not in defaults:
        raise ValueError(
            f"experiment {key}: parameter {name} has no value in [defaults]; "
            f"declared are {sorted(defaults)}"
        )
    expected, got = type(defaults[name]).__name__, type(value).__name__
    if expected != got:
        raise ValueError(
            f"experiment {key}: parameter {name} = {value!r} is {got}, its default is {expected}; "
            f"write it as {expected}"
        )


def check_config(raw: object, source: str = "experiments") -> ExperimentConfig:
    """Validate a configuration that was read from TOML or JSON.

    Raises:
        ExperimentError: it has an unknown key, or breaks a rule.
    """
    try:
        return ExperimentConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] != "value_error" and isinstance(first["input"], str | int | float):
            message = f"{message}, not {first['input']!r:.100}"
        raise ExperimentError(f"{source}: {where + ': ' if where else ''}{message}") from error


def parse_config(text: str, source: str = "experiments") -> ExperimentConfig:
    """Validate a configuration written in TOML.

    Raises:
        ExperimentError: it is not TOML, has an unknown key, or breaks a rule.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{source} is not valid TOML: {error}") from error
    return check_config(raw, source)


def load_config(path: Path) -> ExperimentConfig:
    """Read and validate a configuration file.

    Raises:
        ExperimentError: the file is missing or breaks a rule.
    """
    if not path.is_file():
        raise ExperimentError(f"{path} does not exist; write one, or run `cascade demo` to get one")
    return parse_config(path.read_text(), str(path))
