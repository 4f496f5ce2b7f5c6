"""Policy: the parameters of the cascade that an experiment may set, typed and bounded.

A parameter is declared in `[defaults]` of the experiment configuration, or set by a variant, under
the name of a field here. So an experiment on stage sizes or on the last order needs no code.
"""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from abtest.split.config import Domain, ExperimentConfig
from abtest.split.experiment import ExperimentError, Parameter

MAX_CANDIDATES = 5000
TOGETHER = (("cap_field", "cap"), ("bundle", "interleave_with"))
"""Pairs of parameters of which one is wrong or right by the value of the other."""


class Policy(BaseModel):
    """How a request is answered; the default of a stage size is the bundle's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str
    """Name under which the bundle is served."""
    interleave_with: str = ""
    """Name of a second bundle, of whose answer and the first one's the answer is drafted; empty for
    none."""
    recall_keep: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Candidates the index recalls."""
    history_candidates: int | None = Field(default=None, ge=0, le=MAX_CANDIDATES)
    """Most items of the user's own history that join them."""
    popular_candidates: int = Field(default=0, ge=0, le=MAX_CANDIDATES)
    """Popular items that join them."""
    fresh_candidates: int = Field(default=0, ge=0, le=MAX_CANDIDATES)
    """Newest items that join them."""
    prerank_keep: int | None = Field(default=None, ge=1, le=MAX_CANDIDATES)
    """Candidates that every ranking stage but the last passes on."""
    probability_exponent: float = Field(default=1.0, ge=0, le=10)
    """a of the value p^a * price^b that the last order is by; p is the sigmoid of the score."""
    price_exponent: float = Field(default=0.0, ge=0, le=10)
    """b of the value."""
    diversity: Literal["none", "mmr", "dpp"] = "none"
    diversity_strength: float = Field(default=0.3, ge=0, le=1)
    """0 is value alone, 1 is diversity alone."""
    cap_field: str = ""
    """Item field of which no value may fill more than `cap` places; empty for no cap."""
    cap: int = Field(default=0, ge=0, le=200)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.cap_field) != bool(self.cap):
            raise ValueError(
                f"cap_field {self.cap_field!r} and cap {self.cap} only work together; set both"
            )
        return self


def parse_policy(params: Mapping[str, Parameter]) -> Policy:
    """The policy that a split's parameters describe.

    Raises:
        ExperimentError: a parameter is unknown or out of its range.
    """
    try:
        return Policy.model_validate(params)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        if not name:
            raise ExperimentError(fault["msg"].removeprefix("Value error, ")) from error
        if fault["type"] == "extra_forbidden":
            raise ExperimentError(
                f"parameter {name} is unknown; known are {sorted(Policy.model_fields)}"
            ) from error
        raise ExperimentError(
            f"parameter {name} = {fault['input']!r}: {fault['msg']}; give a value in its range"
        ) from error


def check_policies(config: ExperimentConfig) -> None:
    """Check every parameter a configuration can set.

    Raises:
        ExperimentError: one is unknown or out of its range, or parameters that only work together
            are set in different layers.
    """
    parse_policy(config.defaults)
    for domain in config.domains:
        shipped: dict[str, Parameter] = {}
        _check_together(domain)
        for layer in domain.layers:
            for experiment in layer.experiments:
                if experiment.winner is not None:
                    shipped |= experiment.variant(experiment.winner).params
        for layer in domain.layers:
            for experiment in layer.experiments:
                for variant in experiment.variants:
                    where = f"experiment {experiment.key}, variant {variant.name}"
                    _check_params(where, {**config.defaults, **variant.params})
                    if shipped:
                        where = f"{where}, on top of what was shipped"
                        _check_params(where, {**config.defaults, **shipped, **variant.params})


def _check_together(domain: Domain) -> None:
    """Check that what only fits together is decided by one layer, so that no unit gets halves."""
    owner = {
        name: layer.name
        for layer in domain.layers
        for experiment in layer.experiments
        for variant in experiment.variants
        for name in variant.params
    }
    for one, other in TOGETHER:
        if one in owner and other in owner and owner[one] != owner[other]:
            raise ExperimentError(
                f"domain {domain.name}: {one} is set in layer {owner[one]} and {other} in layer "
                f"{owner[other]}; set both in one layer, so that they fit together for every unit"
            )


def _check_params(where: str, params: Mapping[str, Parameter]) -> None:
    try:
        policy = parse_policy(params)
    except ExperimentError as error:
        raise ExperimentError(f"{where}: {error}") from error
    if policy.interleave_with == policy.bundle:
        raise ExperimentError(
            f"{where}: interleave_with = {policy.interleave_with!r} is the bundle itself; name "
            "another one"
        )
