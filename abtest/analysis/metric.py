"""Metric: what is measured about a unit, declared, so that a new one needs no code.

A measure turns the events of a unit into a number; a metric is the mean of one over units, the
ratio of the sums of two, or a quantile of the values of one. The unit is always what is resampled:
ratios and quantiles are clustered by it.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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

    at_least: float | None = None
    below: float | None = None


class Measure(Frozen):
    """Events of one type, filtered, each giving a number."""

    event: Literal["ranking", "impression", "click", "conversion"]
    value: Value = Value.EVENTS
    where: dict[str, tuple[str, ...] | Bounds] = {}
    """Fields of the event: `item_id`, `position`, `revenue`, `latency`, `bundle`, or `context.NAME`
    of the answer. A list names the values that count; one value may stand alone."""


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
    """Totals of units above this quantile of all variants' units together count as that quantile
    (winsorising), which tames heavy tails. Of means only."""
    covariate_days: int = Field(default=28, ge=0, le=365)
    """CUPED (Deng et al. 2013): days before a unit's first exposure from which the same measure is
    the covariate; 0 for none. Of means and ratios."""

    @property
    def window(self) -> timedelta | None:
        """The window as a time."""
        return None if self.window_days is None else timedelta(days=self.window_days)
