"""An archive made of events straight, and what its rollups must say, in plain Python."""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from abtest.analysis.metric import Bounds, Kind, Measure, Metric, Value
from abtest.analysis.readings.subject import Subject
from abtest.events import Assignment, Event, RankingEvent
from abtest.log.columns import Entry, to_table
from tests.abtest.traffic import DAY_US, START_US, click, conversion, impression, ranking

Raw = dict[str, Any]


def write(folder: Path, events: Iterable[Event], files: int = 1, tag: str = "a") -> None:
    """Archive events as they are, each day's in so many files."""
    days: dict[date, list[Event]] = defaultdict(list)
    for event in events:
        days[day_of(event.event_ts_us)].append(event)
    for day, mine in days.items():
        target = folder / f"day={day}"
        target.mkdir(parents=True, exist_ok=True)
        for number in range(files):
            some = mine[number::files]
            if some:
                entries = [Entry(event, event.model_dump_json().encode()) for event in some]
                pq.write_table(to_table(entries), target / f"{tag}-{number}.parquet")


def day_of(ts_us: int) -> date:
    return datetime.fromtimestamp(ts_us // 10**6, UTC).date()


KEY, OTHER, PERIODS, HOLDOUT = "new-vs-old", "layout", "prices", "held-out"
SUBJECT = Subject(KEY, 2, ("old", "new"))


def world(seed: int, units: int = 40, days: int = 9) -> list[Event]:
    """Answers of several experiments at once, with everything that may go wrong."""
    rng = random.Random(seed)
    events: list[Event] = []
    for number in range(units):
        ts_us = START_US + rng.randrange(days * DAY_US)
        for trip in range(rng.randrange(1, 6)):
            # Some come again in the same second or minute, so that one answer must be the first.
            soon = ts_us > START_US and rng.random() < 0.4
            again = ts_us + rng.choice([0, 10**7, -(10**7)])
            ts_us = again if soon else START_US + rng.randrange(days * DAY_US)
            day = (ts_us - START_US) // DAY_US
            answer = ranking(
                f"r{seed}-{number}-{trip}",
                f"u{number}",
                _assignments(rng, number, day, ts_us),
                items=rng.choice([5, 8]),
                ts_us=ts_us,
                total_us=rng.randrange(1_000, 50_000),
                degraded=("features",) if rng.random() < 0.2 else (),
            )
            context = {"country": rng.choice(["DE", "AT", "ÖÄ\"'"]), "age": rng.choice("123x")}
            context = context if rng.random() < 0.9 else {}
            bundle = rng.choice(["a@1", "b@1"])
            answer = answer.model_copy(update={"context": context, "bundle": bundle})
            events.append(answer)
            events += _feedback(rng, answer)
    return events


def _assignments(rng: random.Random, number: int, day: int, ts_us: int) -> list[Assignment]:
    """Before the third day revision 1; some units cross, some are forced, some are not split."""
    variant = ("old", "new")[number % 2]
    if number % 6 == 5:
        variant = rng.choice(["old", "new"])
    found = [_assigned(OTHER, 1, ("left", "right")[number // 2 % 2])]
    if rng.random() < 0.8:
        forced = number % 11 == 3 and rng.random() < 0.7
        found.append(_assigned(KEY, 1 if day < 3 else 2, variant, forced=forced))
    period = ts_us // (DAY_US // 2)
    hour = datetime.fromtimestamp(period * DAY_US // 2 // 10**6, UTC).isoformat()
    arm = ("low", "high")[hash_of(period) % 2]
    found.append(_assigned(PERIODS, 1, arm, cluster=hour, forced=number == 7))
    found.append(_assigned(HOLDOUT, 1, "held" if number % 10 == 0 else "open"))
    if rng.random() < 0.2:
        rng.shuffle(found)
    return found


def hash_of(number: int) -> int:
    return number * 2654435761 % 2**32 >> 7


def _assigned(
    key: str, revision: int, variant: str, *, forced: bool = False, cluster: str | None = None
) -> Assignment:
    return Assignment(
        layer=key,
        key=key,
        revision=revision,
        variant=variant,
        propensity=0.5,
        forced=forced,
        cluster=cluster,
    )


def _feedback(rng: random.Random, answer: RankingEvent) -> list[Event]:
    """Seen, clicked and bought, some of it again, later, or on an earlier clock."""
    found: list[Event] = []
    if rng.random() < 0.2:
        back = conversion(answer, 4, -rng.randrange(1, 10**6), refund_of="elsewhere")
        found.append(_moved(back, f"y-{answer.request_id}", 60))
    for position in range(rng.randrange(4)):
        for again in range(rng.choice([1, 1, 2, 3])):
            name = f"{answer.request_id}-{position}-{again}"
            later = rng.choice([60, 3600, 86_400, 3 * 86_400, -86_400 if again else 60]) * 10**6
            found.append(_moved(impression(answer, position), f"v-{name}", later))
            if rng.random() < 0.5:
                found.append(_moved(click(answer, position), f"k-{name}", later))
            if rng.random() < 0.5:
                micros = rng.randrange(1, 30_000_000)
                bought = _moved(conversion(answer, position, micros), f"b-{name}", later)
                found.append(bought)
                if rng.random() < 0.3:
                    back = conversion(answer, position, -micros, refund_of=bought.event_id)
                    found.append(_moved(back, f"x-{name}", 2 * later))
    return found


def _moved(event: Event, event_id: str, later_us: int) -> Event:
    ts_us = event.event_ts_us + later_us
    return event.model_copy(update={"event_id": event_id, "event_ts_us": ts_us})


class Contribution(NamedTuple):
    """What an event adds to a measure."""

    event: Raw
    day: date
    number: int


class Expected(NamedTuple):
    """What a sample must be."""

    numerator: list[float]
    denominator: list[float] | None
    covariate: list[float] | None
    covariate_denominator: list[float] | None


class Oracle:
    """The rules of docs/metrics.md over the events' JSON, one event after the other."""

    def __init__(self, events: Iterable[Event], subject: Subject) -> None:
        raw = [json.loads(event.model_dump_json()) for event in events]
        self.events: list[Raw] = list({event["event_id"]: event for event in raw}.values())
        self.subject = subject
        self.answers = {e["request_id"]: e for e in self.events if e["type"] == "ranking"}
        self.clustered = False
        self.forced: set[str] = set()
        seen: dict[str, set[str]] = defaultdict(set)
        first: dict[str, tuple[int, str]] = {}
        for event in self.events:
            given = self.given(event)
            if given is None:
                continue
            if given["forced"]:
                self.forced.add(event["unit"])
                continue
            self.clustered |= given["cluster"] is not None
            unit = given["cluster"] or event["unit"]
            seen[unit].add(given["variant"])
            if event["type"] == "ranking":
                context = json.dumps(
                    event["context"], sort_keys=True, ensure_ascii=False, separators=(",", ":")
                )
                now = (event["event_ts_us"], context)
                first[unit] = min(first.get(unit, now), now)
        exposed = {unit: at for unit, at in first.items() if unit not in self.forced}
        self.crossed = {unit for unit in exposed if len(seen[unit]) > 1}
        self.first = {unit: at for unit, at in exposed.items() if unit not in self.crossed}
        self.variant = {unit: next(iter(seen[unit])) for unit in self.first}

    def given(self, event: Raw) -> Raw | None:
        """The event's assignment by the subject."""
        mine: list[Raw] = [
            given
            for given in event["experiments"]
            if (given["key"], given["revision"]) == (self.subject.key, self.subject.revision)
        ]
        return mine[0] if mine else None

    def first_day(self, unit: str) -> date:
        return day_of(self.first[unit][0])

    def chosen(
        self, variant: str, segment: tuple[str, str] | None = None, until: date | None = None
    ) -> list[str]:
        """Units, sorted by name."""
        found = [unit for unit, name in self.variant.items() if name == variant]
        if until is not None:
            found = [unit for unit in found if self.first_day(unit) <= until]
        if segment is not None:
            contexts = {unit: json.loads(self.first[unit][1]) for unit in found}
            found = [unit for unit in found if contexts[unit].get(segment[0]) == segment[1]]
        return sorted(found)

    def contributions(self, measure: Measure) -> list[Contribution]:
        """All that the log adds to a measure; an item once an answer, on its first day."""
        found = []
        items: dict[tuple[str, str], Contribution] = {}
        for event in self.events:
            number = value(measure, event)
            if number is None:
                continue
            one = Contribution(event, day_of(event["event_ts_us"]), number)
            if measure.value is Value.ITEMS and measure.event != "ranking":
                item = (event["request_id"], event["item_id"])
                items[item] = min(items.get(item, one), one, key=lambda c: c.day)
            else:
                found.append(one)
        return found + list(items.values())

    def carried(self, metric: Metric, measure: Measure) -> list[tuple[str, Contribution]]:
        """Those of the subject's units, from their first day on and within the window."""
        found = []
        for one in self.contributions(measure):
            given = self.given(one.event)
            if given is None or given["forced"]:
                continue
            unit = given["cluster"] or one.event["unit"]
            if unit not in self.first:
                continue
            age = (one.day - self.first_day(unit)).days
            if age >= 0 and (metric.window_days is None or age < metric.window_days):
                found.append((unit, one))
        return found

    def sample(
        self,
        metric: Metric,
        variant: str,
        segment: tuple[str, str] | None = None,
        until: date | None = None,
        since: date | None = None,
    ) -> Expected:
        """What `Readings.sample` must give."""
        units = self.chosen(variant, segment, until)
        sums: list[list[float] | None] = []
        for measure in (metric.numerator, metric.denominator):
            if measure is None:
                sums += [None, None]
                continue
            totals, before = dict.fromkeys(units, 0), dict.fromkeys(units, 0)
            for unit, one in self.carried(metric, measure):
                late = (since is not None and one.day < since) or (
                    until is not None and one.day > until
                )
                if unit in totals and not late:
                    totals[unit] += one.number
            for one in self.contributions(measure):
                unit = one.event["unit"]
                if unit in before:
                    age = (one.day - self.first_day(unit)).days
                    before[unit] += one.number if -metric.covariate_days <= age < 0 else 0
            none = self.clustered or not metric.covariate_days
            scale = {Value.REVENUE: 1e6, Value.LATENCY: 1e3}.get(measure.value, 1.0)
            sums.append([total / scale for total in totals.values()])
            sums.append(None if none else [total / scale for total in before.values()])
        assert sums[0] is not None
        return Expected(sums[0], sums[2], sums[1], sums[3])

    def values(self, metric: Metric, variant: str) -> list[tuple[int, float]]:
        """What `Readings.values` must give, as pairs of unit and value."""
        assert metric.kind is Kind.QUANTILE
        units = self.chosen(variant)
        scale = 1e3 if metric.numerator.value is Value.LATENCY else 1e6
        return sorted(
            (units.index(unit), one.number / scale)
            for unit, one in self.carried(metric, metric.numerator)
            if unit in units
        )

    def total(self, measure: Measure, variant: str) -> int:
        """The sum over a variant's units."""
        metric = Metric(name="m", title="m", numerator=measure)
        units = self.chosen(variant)
        return sum(one.number for unit, one in self.carried(metric, measure) if unit in units)


def value(measure: Measure, event: Raw) -> int | None:
    """What an event adds to a measure; None where it is not one of its events."""
    refund = event.get("refund_of") is not None
    if event["type"] != measure.event or (refund and measure.value is not Value.REVENUE):
        return None
    fields: Mapping[str, Any] = {
        "item_id": event.get("item_id"),
        "position": event.get("position"),
        "revenue": event.get("revenue_micros", 0) / 1e6,
        "latency": event.get("latency_us", {}).get("total", 0) / 1e3,
        "bundle": event.get("bundle"),
        **{f"context.{name}": text for name, text in event.get("context", {}).items()},
    }
    for field, wanted in measure.where.items():
        if not _fits(fields.get(field), wanted):
            return None
    numbers: dict[Value, int] = {
        Value.EVENTS: 1,
        Value.ITEMS: len(event["item_ids"]) if event["type"] == "ranking" else 1,
        Value.REVENUE: event.get("revenue_micros", 0),
        Value.LATENCY: event.get("latency_us", {}).get("total", 0),
        Value.DEGRADED: int(bool(event.get("degraded"))),
    }
    return numbers[measure.value]


def _fits(found: object, wanted: tuple[str, ...] | Bounds) -> bool:
    if not isinstance(wanted, Bounds):
        return found in wanted
    try:
        number = float(found)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    low, high = wanted.at_least, wanted.below
    return (low is None or number >= low) and (high is None or number < high)


def bits(numbers: Sequence[float] | np.ndarray | None) -> bytes | None:
    """Equal where every bit is."""
    return None if numbers is None else np.asarray(numbers, np.float64).tobytes()
