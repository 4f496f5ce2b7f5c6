"""Experiment: who is compared with whom, on which traffic, by which parameters and metrics."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SLOTS = 10_000
"""Slots of a layer, of the domains and of a holdout; a share of traffic is a number of slots."""

Parameter = str | int | float | bool


class ExperimentError(ValueError):
    """A configuration that cannot be used; the message names place, value, rule and remedy."""


class State(StrEnum):
    """Life of an experiment. All but a draft hold their slots."""

    DRAFT = "draft"
    """Being written; it holds nothing and does nothing."""
    AA = "aa"
    """Split and logged like a running one, but every variant gets the control's parameters."""
    RUNNING = "running"
    PAUSED = "paused"
    """Nobody is split; everybody gets the defaults, until it runs again with the same units."""
    KILLED = "killed"
    """Ended, for harm or for lack of use; everybody gets the defaults."""
    SHIPPED = "shipped"
    """Ended; the whole layer, in its slots or not, gets the parameters of `winner`."""


SPLITTING = (State.AA, State.RUNNING)
"""States in which units are split and answers logged."""


class Frozen(BaseModel):
    """A part of the configuration: never changed, only replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(Frozen):
    """One arm: its share of the experiment's traffic and the parameters it sets."""

    name: str = Field(min_length=1, max_length=100)
    weight: float = Field(gt=0, le=1)
    params: dict[str, Parameter] = {}


class Condition(Frozen):
    """What a field of the request's context must be; what is given must hold together.

    A field that the request does not have fulfils nothing but `none_of`.
    """

    one_of: tuple[str, ...] | None = None
    none_of: tuple[str, ...] | None = None
    at_least: float | None = None
    """Of a field that is a number; one that is not fulfils nothing."""
    below: float | None = None


class Switchback(Frozen):
    """Everybody gets the same variant for a period; the periods are what is split and compared."""

    period_min: int = Field(ge=1, le=7 * 24 * 60)
    """Length in minutes; periods start at multiples of it since the Unix epoch, UTC."""


class Guardrail(Frozen):
    """A metric that no variant may harm."""

    metric: str
    tolerance: float = Field(default=0.0, ge=0, lt=1)
    """Harm that is accepted, as a share of the control's value."""
    auto_stop: bool = True
    """Kill the experiment once its always-valid interval shows more harm than that."""


class Experiment(Frozen):
    """A comparison of variants on slots of its layer."""

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")
    revision: int = Field(ge=1)
    """Raised with every change of arms or weights, and when an A/A phase ends: units are then split
    anew, and only what came after is analysed."""
    state: State = State.DRAFT
    hypothesis: str = Field(default="", max_length=2000)
    """What is expected and why, for those who read the report."""
    start: datetime | None = None
    """Nobody is split before; with a time zone."""
    end: datetime | None = None
    """Nobody is split from then on."""
    slots: tuple[tuple[int, int], ...] = ((0, SLOTS),)
    """Ranges: first slot and one past the last. One range may stand alone: `slots = [0, 500]`."""
    control: str
    """Name of the variant the others are compared with."""
    variants: tuple[Variant, ...] = Field(min_length=2)
    when: dict[str, Condition] = {}
    """Conditions on the request's context; all must hold. `{ country = "DE" }` and
    `{ country = ["DE", "AT"] }` are short for `one_of`."""
    force: dict[str, str] = {}
    """Variant by unit, for those who test: whatever slot and state, but logged as forced, and left
    out of every analysis."""
    sticky: bool = False
    """Units keep the variant they first got, also when slots or conditions leave them out."""
    switchback: Switchback | None = None
    winner: str | None = None
    """The variant everybody gets, of a shipped experiment."""
    primary_metric: str = "revenue_per_unit"
    secondary_metrics: tuple[str, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    segments: tuple[str, ...] = ()
    """Fields of the request's context by whose values effects are also told."""
    planned_units: int | None = Field(default=None, ge=2)
    """Units at which the fixed-horizon result is read; `cascade plan` computes it."""

    @field_validator("slots", mode="before")
    @classmethod
    def _one_range_may_stand_alone(cls, slots: Any) -> Any:  # noqa: ANN401  # not checked yet
        alone = isinstance(slots, list | tuple) and all(isinstance(slot, int) for slot in slots)
        return (slots,) if alone and slots else slots

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
        for first, end in self.slots:
            if not 0 <= first < end <= SLOTS:
                raise ValueError(
                    f"experiment {self.key}: slots {first}..{end} must satisfy "
                    f"0 <= first < end <= {SLOTS}"
                )
        return self
