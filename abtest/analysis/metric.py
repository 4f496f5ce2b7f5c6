"""Metric: what is measured about a unit, declared, so that a new one needs no code.

A measure turns the events of a unit into a number; a metric is the mean of one over units, the
ratio of the sums of two, or a quantile of the values of one. The unit is always what is resampled:
ratios and quantiles are clustered by it.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)


class MetricError(ValueError):
    """A declaration that cannot be used; the message names place, value, rule and remedy."""


class Frozen(BaseModel):
    """Never changed, only replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Value(StrEnum):
    """What of an event is taken; what is added up is always a whole number."""

    EVENTS = "events"
    """1 for each event."""
    ITEMS = "items"
    """Of an answer the recommended items; of feedback 1 for each item of an answer, however often
    it was seen, clicked or bought."""
    REVENUE = "revenue"
    """Of a conversion, micros of the report's currency; refunds count negative."""
    LATENCY = "latency"
    """Of an answer, microseconds inside the server."""
    DEGRADED = "degraded"
    """1 for each answer that was degraded."""


class Bounds(Frozen):
    """Bounds of a field that is a number, revenue in currency units, latency in milliseconds."""

    at_least: float | None = Field(default=None, allow_inf_nan=False)
    below: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.at_least is None and self.below is None:
            raise ValueError("bounds must have at_least, below or both; name one")
        if self.at_least is not None and self.below is not None and self.at_least >= self.below:
            raise ValueError(f"at_least {self.at_least:g} must be less than below {self.below:g}")
        return self


def _one_may_stand_alone(condition: Any) -> Any:  # noqa: ANN401  # not checked yet
    return (condition,) if isinstance(condition, str) else condition


def _kind(condition: Any) -> str:  # noqa: ANN401  # not checked yet
    return "bounds" if isinstance(condition, dict | Bounds) else "values"


Condition = Annotated[
    Annotated[tuple[str, ...], Field(min_length=1, max_length=1000), Tag("values")]
    | Annotated[Bounds, Tag("bounds")],
    Discriminator(_kind),
    BeforeValidator(_one_may_stand_alone),
]

CONTEXT: Final = "context."
"""Before the name of a field of the answer's context."""
_NUMBERS: Final = ("position", "revenue", "latency")
_FIELDS: Final = {
    "ranking": ("latency", "bundle"),
    "impression": ("item_id", "position"),
    "click": ("item_id", "position"),
    "conversion": ("item_id", "position", "revenue"),
}
_VALUES: Final = {
    "ranking": (Value.EVENTS, Value.ITEMS, Value.LATENCY, Value.DEGRADED),
    "impression": (Value.EVENTS, Value.ITEMS),
    "click": (Value.EVENTS, Value.ITEMS),
    "conversion": (Value.EVENTS, Value.ITEMS, Value.REVENUE),
}


class Measure(Frozen):
    """Events of one type, filtered, each giving a number.

    A refund takes revenue back and nothing else: it is no event and no item.
    """

    event: Literal["ranking", "impression", "click", "conversion"]
    value: Value = Value.EVENTS
    where: dict[str, Condition] = {}
    """Fields of the event, all of which must fit: of a ranking `latency`, `bundle` or
    `context.NAME`; of feedback `item_id`, `position`, and of a conversion `revenue`. A list names
    the values that count; one value may stand alone."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.value not in _VALUES[self.event]:
            known = [str(value) for value in _VALUES[self.event]]
            raise ValueError(f"value {self.value} is not one of event {self.event}: {known}")
        for field, condition in self.where.items():
            in_context = self.event == "ranking" and len(field) > len(CONTEXT)
            if in_context and field.startswith(CONTEXT):
                continue
            if field not in _FIELDS[self.event]:
                known = [*_FIELDS[self.event], *(["context.NAME"] * (self.event == "ranking"))]
                raise ValueError(f"where.{field} is not a field of event {self.event}: {known}")
            if isinstance(condition, Bounds) != (field in _NUMBERS):
                must = "bounds" if field in _NUMBERS else "values"
                raise ValueError(f"where.{field} must be {must}, as it is a {_KINDS[must]}")
        return self


_KINDS: Final = {"bounds": "number: { at_least = 1, below = 5 }", "values": 'text: ["a", "b"]'}


class Kind(StrEnum):
    """How a metric is made of the units' numbers."""

    MEAN = "mean"
    """Mean of the numerator over units; a unit without events counts as 0."""
    RATIO = "ratio"
    """Sum of the numerator over sum of the denominator."""
    QUANTILE = "quantile"
    """A quantile of the numerator's values, over all events of all units."""


class Format(StrEnum):
    """How a value is written."""

    MONEY = "money"
    COUNT = "count"
    SHARE = "share"
    MS = "ms"


_OF_QUANTILES: Final = (Value.LATENCY, Value.REVENUE)


class Metric(Frozen):
    """A number that variants are compared by."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    title: str = Field(min_length=1, max_length=80)
    kind: Kind = Kind.MEAN
    numerator: Measure
    denominator: Measure | None = None
    quantile: float | None = Field(default=None, gt=0, lt=1)
    scale: float = Field(default=1.0, gt=0)
    """The value is multiplied by it: 1000 for revenue per 1000 items."""
    good: Literal["up", "down"] = "up"
    format: Format = Format.COUNT
    window_days: int | None = Field(default=None, ge=1, le=365)
    """Only events on the day (UTC) of the unit's first exposure and those after it, so many in all.
    Without, everything since the first exposure."""
    cap_quantile: float | None = Field(default=None, gt=0.5, lt=1)
    """Totals of units above this quantile of the two compared variants count as that
    quantile (winsorising), which tames heavy tails. Of means only."""
    covariate_days: int = Field(default=28, ge=0, le=365)
    """CUPED (Deng et al. 2013): days before a unit's first exposure from which the same measure is
    the covariate; 0 for none. Of means and ratios."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        needs = {
            "denominator": (Kind.RATIO, self.denominator is not None),
            "quantile": (Kind.QUANTILE, self.quantile is not None),
        }
        for field, (kind, given) in needs.items():
            if given != (self.kind is kind):
                must = "needs" if self.kind is kind else "must not have"
                raise ValueError(f"a {self.kind} {must} {field}; only a {kind} has one")
        if self.cap_quantile is not None and self.kind is not Kind.MEAN:
            raise ValueError(f"a {self.kind} must not have cap_quantile; only a mean has one")
        if self.kind is Kind.QUANTILE and self.numerator.value not in _OF_QUANTILES:
            raise ValueError(
                f"a quantile must be of a value of each event, {[str(v) for v in _OF_QUANTILES]}, "
                f"not of {self.numerator.value}; take a mean or a ratio"
            )
        return self

    @property
    def window(self) -> timedelta | None:
        """The window as a time."""
        return None if self.window_days is None else timedelta(days=self.window_days)
