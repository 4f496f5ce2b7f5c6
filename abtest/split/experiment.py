"""Experiment: who is compared with whom, on which traffic, by which parameters and metrics."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from abtest.split.condition import Condition
from abtest.split.part import (
    LARGEST_INTEGER,
    SLOTS,
    Frozen,
    Key,
    Name,
    Parameter,
    Seed,
    Slots,
    Text,
    Unit,
    Value,
    check_slots,
    check_unique,
)

__all__ = [
    "HELD",
    "HOLDOUT",
    "OPEN",
    "SLOTS",
    "SPLITTING",
    "Condition",
    "Experiment",
    "ExperimentError",
    "Frozen",
    "Guardrail",
    "Parameter",
    "State",
    "Switchback",
    "Variant",
]

HOLDOUT = "holdout"
"""The layer that assignments to holdouts name."""
HELD = "held"
"""Variant of a holdout, its control: bare defaults."""
OPEN = "open"
"""Variant of a holdout: everybody else."""


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


class Variant(Frozen):
    """One arm: its share of the experiment's traffic and the parameters it sets."""

    name: Name
    weight: float = Field(gt=0, le=1)
    params: dict[Name, Value] = Field(default={}, max_length=100)


class Switchback(Frozen):
    """Everybody gets the same variant for a period; the periods are what is split and compared."""

    period_min: int = Field(ge=1, le=7 * 24 * 60)
    """Length in minutes; periods start at multiples of it since the Unix epoch, UTC."""


class Guardrail(Frozen):
    """A metric that no variant may harm."""

    metric: Name
    tolerance: float = Field(default=0.0, ge=0, lt=1)
    """Harm that is accepted, as a share of the control's value."""
    auto_stop: bool = True
    """Kill the experiment once its always-valid interval shows more harm than that."""


class Experiment(Frozen):
    """A comparison of variants on slots of its layer."""

    key: Key
    revision: int = Field(ge=1, le=10**6)
    """Raised with every change of arms or weights, and when an A/A phase ends: units are then split
    anew, and only what came after is analysed."""
    state: State = State.DRAFT
    hypothesis: str = Field(default="", max_length=2000)
    """What is expected and why, for those who read the report."""
    start: datetime | None = None
    """Nobody is split before; with a time zone."""
    end: datetime | None = None
    """Nobody is split from then on."""
    slots: tuple[Slots, ...] = Field(default=((0, SLOTS),), min_length=1, max_length=1000)
    """Ranges: first slot and one past the last. One range may stand alone: `slots = [0, 500]`."""
    control: Name
    """Name of the variant the others are compared with."""
    variants: tuple[Variant, ...] = Field(min_length=2, max_length=20)
    """Without any `weight`, each has the same."""
    when: dict[Name, Condition] = Field(default={}, max_length=20)
    """Conditions on the request's context; all must hold. `{ country = "DE" }` and
    `{ country = ["DE", "AT"] }` are short for `one_of`."""
    force: dict[Unit, Name] = Field(default={}, max_length=1000)
    """Variant by unit, for those who test: whatever slot and state, but logged as forced, and left
    out of every analysis."""
    sticky: bool = False
    """Units keep the variant they first got, also when slots or conditions leave them out."""
    switchback: Switchback | None = None
    winner: Name | None = None
    """The variant everybody gets, of a shipped experiment."""
    seed: Seed | None = None
    """Of hash `gb2` only: GrowthBook's `seed`; without it the key, as there."""
    coverage: float | None = Field(default=None, gt=0, le=1)
    """Of hash `gb2` only: GrowthBook's `coverage`, the share of each variant's range that is
    taken; without it 1. Raising it moves nobody who is in."""
    namespace: tuple[Text, float, float] | None = None
    """Of hash `gb2` only: GrowthBook's `namespace`: id, start and end of the range in [0, 1]."""
    primary_metric: Name = "revenue_per_unit"
    secondary_metrics: tuple[Name, ...] = Field(default=(), max_length=50)
    guardrails: tuple[Guardrail, ...] = Field(default=(), max_length=20)
    segments: tuple[Name, ...] = Field(default=(), max_length=20)
    """Fields of the request's context by whose values effects are also told."""
    planned_units: int | None = Field(default=None, ge=2, le=LARGEST_INTEGER)
    """Units at which the fixed-horizon result is read; `cascade plan` computes it."""

    @field_validator("slots", mode="before")
    @classmethod
    def _one_range_may_stand_alone(cls, slots: Any) -> Any:  # noqa: ANN401  # not checked yet
        alone = isinstance(slots, list | tuple) and all(isinstance(slot, int) for slot in slots)
        return (slots,) if alone and slots else slots

    @field_validator("variants", mode="before")
    @classmethod
    def _without_weights_each_has_the_same(cls, variants: Any) -> Any:  # noqa: ANN401  # as above
        arms = variants if isinstance(variants, list | tuple) else ()
        if arms and all(isinstance(arm, dict) and "weight" not in arm for arm in arms):
            return [{**arm, "weight": 1 / len(arms)} for arm in arms]
        return variants

    @model_validator(mode="after")
    def _check(self) -> Self:
        where = f"experiment {self.key}"
        _check_variants(where, self)
        check_slots(where, self.slots)
        _check_times(where, self)
        _check_winner(where, self)
        _check_metrics(where, self)
        if self.sticky and self.switchback is not None:
            raise ValueError(
                f"{where}: sticky and switchback contradict: a unit cannot keep its variant "
                "and change it with the period; remove one"
            )
        if self.namespace is not None and not 0 <= self.namespace[1] < self.namespace[2] <= 1:
            raise ValueError(
                f"{where}: namespace {list(self.namespace)} must be an id, then 0 <= start < "
                "end <= 1"
            )
        return self

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            ExperimentError: there is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise ExperimentError(
            f"experiment {self.key} has no variant {name!r}; it has "
            f"{[variant.name for variant in self.variants]}"
        )


def _check_variants(where: str, experiment: Experiment) -> None:
    names = [variant.name for variant in experiment.variants]
    check_unique(where, "variant names", names)
    if experiment.control not in names:
        raise ValueError(f"{where}: control {experiment.control!r} must be one of {names}")
    total = sum(variant.weight for variant in experiment.variants)
    if abs(total - 1) > 1e-9:
        weights = " + ".join(f"{variant.weight:g}" for variant in experiment.variants)
        raise ValueError(f"{where}: weights {weights} = {total:g} must sum to 1")
    for unit, variant in experiment.force.items():
        if variant not in names:
            raise ValueError(f"{where}: force {unit!r} = {variant!r} must be one of {names}")


def _check_times(where: str, experiment: Experiment) -> None:
    for name, time in (("start", experiment.start), ("end", experiment.end)):
        if time is not None and time.utcoffset() is None:
            raise ValueError(
                f"{where}: {name} = {time.isoformat()} must have a time zone; for UTC write "
                f"{time.isoformat()}Z"
            )
    start, end = experiment.start, experiment.end
    if start is not None and end is not None and start >= end:
        raise ValueError(
            f"{where}: start = {start.isoformat()} must be before end = {end.isoformat()}"
        )


def _check_winner(where: str, experiment: Experiment) -> None:
    names = [variant.name for variant in experiment.variants]
    if experiment.state is not State.SHIPPED:
        if experiment.winner is not None:
            raise ValueError(
                f"{where}: winner = {experiment.winner!r} is of state shipped, not "
                f'{experiment.state}; remove it, or set state = "shipped"'
            )
    elif experiment.winner is None:
        raise ValueError(f"{where}: shipped without a winner; set winner to one of {names}")
    elif experiment.winner not in names:
        raise ValueError(f"{where}: winner {experiment.winner!r} must be one of {names}")


def _check_metrics(where: str, experiment: Experiment) -> None:
    check_unique(where, "secondary_metrics", experiment.secondary_metrics)
    check_unique(where, "guardrails", (rail.metric for rail in experiment.guardrails))
    check_unique(where, "segments", experiment.segments)
    if experiment.primary_metric in experiment.secondary_metrics:
        raise ValueError(
            f"{where}: primary_metric {experiment.primary_metric!r} stands in "
            "secondary_metrics, too; remove it there"
        )
