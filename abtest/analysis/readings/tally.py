"""Tally: a measure as a column of a rollup, in SQL over the table of events of `part`."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from abtest.analysis.metric import CONTEXT, Bounds, Kind, Measure, Metric, MetricError, Value

REQUESTS: Final = Measure(event="ranking")
ITEMS: Final = Measure(event="ranking", value=Value.ITEMS)
DEGRADED: Final = Measure(event="ranking", value=Value.DEGRADED)
LATENCY: Final = Measure(event="ranking", value=Value.LATENCY)
SEEN: Final = Measure(event="impression", value=Value.ITEMS)
CLICKED: Final = Measure(event="click", value=Value.ITEMS)
BOUGHT: Final = Measure(event="conversion", value=Value.ITEMS)
REVENUE: Final = Measure(event="conversion", value=Value.REVENUE)

MAX_ITEM_TALLIES: Final = 62
"""Each is a bit of a whole number."""

_VALUES: Final = {
    Value.EVENTS: "1",
    Value.ITEMS: "item_count",
    Value.REVENUE: "micros",
    Value.LATENCY: "latency_us",
    Value.DEGRADED: "degraded::INTEGER",
}
_NUMBERS: Final = {
    "position": ("position", 1),
    "revenue": ("micros", 10**6),
    "latency": ("latency_us", 1000),
}


class Tally(NamedTuple):
    """A measure and the column it is kept in."""

    name: str
    measure: Measure

    @property
    def of_items(self) -> bool:
        """Whether an item counts once an answer, so that what is added up must be distinct."""
        return self.measure.value is Value.ITEMS and self.measure.event != "ranking"

    @property
    def value(self) -> str:
        """What an event adds."""
        return _VALUES[self.measure.value]

    @property
    def condition(self) -> str:
        """Which events add it."""
        tests = [f"type = '{self.measure.event}'"]
        if self.measure.event == "conversion" and self.measure.value is not Value.REVENUE:
            tests.append("NOT refund")
        tests += [_test(field, wanted) for field, wanted in sorted(self.measure.where.items())]
        return " AND ".join(tests)


class Tallies(NamedTuple):
    """All columns of a rollup."""

    sums: tuple[Tally, ...]
    """Whole numbers that are added up."""
    items: tuple[Tally, ...]
    """Distinct items; the place of each is its bit."""
    values: tuple[Tally, ...]
    """Values that are kept one by one, for quantiles."""

    @property
    def names(self) -> list[str]:
        """Columns of a unit's numbers, in their order."""
        return [tally.name for tally in (*self.sums, *self.items)]


def name_of(measure: Measure) -> str:
    """The column of a measure; equal measures share it."""
    fields = measure.model_dump(mode="json")
    text = json.dumps(fields, sort_keys=True)
    return f"{measure.event}_{measure.value}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def tallies(metrics: Mapping[str, Metric]) -> Tallies:
    """What must be kept for some metrics, and for the counts of every report.

    Raises:
        MetricError: they count too many different kinds of items.
    """
    summed = [REQUESTS, ITEMS, DEGRADED, SEEN, CLICKED, BOUGHT, REVENUE]
    listed = [LATENCY]
    for metric in metrics.values():
        measures = [m for m in (metric.numerator, metric.denominator) if m is not None]
        (listed if metric.kind is Kind.QUANTILE else summed).extend(measures)
    added = _distinct(summed)
    items = tuple(tally for tally in added if tally.of_items)
    if len(items) > MAX_ITEM_TALLIES:
        raise MetricError(
            f"the metrics count {len(items)} different kinds of items; {MAX_ITEM_TALLIES} are the "
            "most, drop some"
        )
    return Tallies(tuple(t for t in added if not t.of_items), items, _distinct(listed))


def _distinct(measures: Iterable[Measure]) -> tuple[Tally, ...]:
    found = {name_of(measure): measure for measure in measures}
    return tuple(Tally(name, found[name]) for name in sorted(found))


def _test(field: str, wanted: tuple[str, ...] | Bounds) -> str:
    column, scale = _NUMBERS.get(field, (field, 1))
    if field.startswith(CONTEXT):
        column = f"map_extract(context, {_quoted(field.removeprefix(CONTEXT))})[1]"
    if not isinstance(wanted, Bounds):
        return f"coalesce({column} IN ({', '.join(map(_quoted, wanted))}), false)"
    number = f"TRY_CAST({column} AS DOUBLE)"
    tests = [
        f"coalesce({number} {sign} {_scaled(bound, scale)!r}, false)"
        for sign, bound in ((">=", wanted.at_least), ("<", wanted.below))
        if bound is not None
    ]
    return " AND ".join(tests)


def _scaled(bound: float, scale: int) -> float:
    # Events hold whole micros and microseconds, so the bound is one, too.
    return bound if scale == 1 else float(round(bound * scale))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
