from datetime import date, timedelta
from pathlib import Path

import pytest

from abtest.analysis.metrics_file import load_metrics
from abtest.analysis.readings.history import History, HistoryError, history
from abtest.analysis.readings.subject import Subject
from abtest.events import Assignment, Event
from tests.abtest.analysis.readings.log import Oracle, bits, day_of, world, write

METRICS = load_metrics()
EVERYBODY = Subject("history", 1, ("all",))


def read(folder: Path, days: int, until: date | None = None) -> History:
    return history(folder / "events", folder / "r", METRICS, days=days, until=until)


def as_experiment(events: list[Event], first: date, last: date) -> list[Event]:
    """The events of these days and before, the answers of these days in an experiment of all."""
    given = Assignment(layer="", key="history", revision=1, variant="all", propensity=1)
    found: list[Event] = []
    for event in events:
        day = day_of(event.event_ts_us)
        split = (given,) if first <= day <= last else ()
        if day <= last:
            found.append(event.model_copy(update={"experiments": split}))
    return found


def test_it_is_an_experiment_that_everybody_was_in(tmp_path: Path) -> None:
    events = world(6)
    write(tmp_path / "events", events, files=2)
    first, last = date(2026, 1, 4), date(2026, 1, 7)
    found = read(tmp_path, 4, last)
    oracle = Oracle(as_experiment(events, first, last), EVERYBODY)
    assert found.days == tuple(first + timedelta(days=n) for n in range(4))
    assert found.units == len(oracle.first) == sum(found.units_per_day())
    for name in ("revenue_per_unit", "click_rate", "conversion_rate", "degraded_share"):
        metric = METRICS[name]
        for until in (None, date(2026, 1, 5)):
            sample = found.sample(metric, until=until)
            for got, want in zip(sample, oracle.sample(metric, "all", None, until), strict=True):
                assert bits(got) == bits(want)
    values = found.values(METRICS["latency_p99"])
    pairs = list(zip(values.units.tolist(), values.values.tolist(), strict=True))
    assert pairs == oracle.values(METRICS["latency_p99"], "all")


def test_it_ends_with_the_archive(tmp_path: Path) -> None:
    events = [event for event in world(7) if event.type == "ranking"]
    write(tmp_path / "events", events)
    assert read(tmp_path, 2).days[-1] == max(day_of(event.event_ts_us) for event in events)


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="days == 0 must be 1 or more"):
        read(tmp_path, 0)
    with pytest.raises(HistoryError, match="events holds no archived events; serve traffic"):
        read(tmp_path, 7)
    write(tmp_path / "events", world(8, units=3))
    with pytest.raises(HistoryError, match="no answer from 2025-01-02 to 2025-01-03; name other"):
        read(tmp_path, 2, date(2025, 1, 3))
