"""Reports of archived events: from the log to the decision."""

import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis
from scipy import stats

from abtest.analysis.readings.readings import ReadingsError
from abtest.events import ConversionEvent, Event, RankingEvent
from abtest.report.analysis import ReportError
from abtest.report.making import Archive, make
from abtest.report.model import Arm, Report
from abtest.report.trial import trial
from abtest.report.wording import REPLAY_NOTE
from abtest.split.config import ExperimentConfig
from abtest.split.experiment import ExperimentError
from tests.abtest.report.made import METRICS
from tests.abtest.traffic import (
    DAY_US,
    KEY,
    START_US,
    append,
    archived,
    assignment,
    click,
    config,
    conversion,
    impression,
    ranking,
    world,
)

NOW = datetime(2026, 2, 1, tzinfo=UTC)


def archive_of(events: Path) -> Archive:
    return Archive(events, events.with_name(f"{events.name}-rollups"), METRICS, None)


def analyze(events: Path, split: ExperimentConfig, key: str = KEY) -> Report:
    return make(archive_of(events), trial(split, key), as_of=NOW)


def arms(report: Report) -> dict[str, Arm]:
    return {arm.name: arm for arm in report.arms}


def noise() -> list[Event]:
    """Traffic that must not count: forced, of another revision, of no experiment, orphaned."""
    forced = ranking("f1", "forced", [assignment("new", forced=True)])
    older = ranking("o1", "older", [assignment("new", revision=2)])
    other = ranking("x1", "elsewhere", [assignment("new").model_copy(update={"key": "other"})])
    outside = ranking("n1", "outside", [])
    return [
        *(forced, older, other, outside),
        conversion(forced, 0, 10**12),
        conversion(older, 0, 10**12),
        conversion(other, 0, 10**12),
        conversion(outside, 0, 10**12),
    ]


def totals(events: Sequence[Event], name: str) -> dict[str, int]:
    """Micros by unit of a variant, in plain Python."""
    unique = {event.event_id: event for event in events}.values()
    given = {
        event.request_id: event.unit
        for event in unique
        if isinstance(event, RankingEvent)
        and any(
            (a.key, a.revision, a.variant, a.forced) == (KEY, 1, name, False)
            for a in event.experiments
        )
    }
    micros = dict.fromkeys(given.values(), 0)
    for event in unique:
        if isinstance(event, ConversionEvent) and event.request_id in given:
            micros[event.unit] += event.revenue_micros
    return micros


def test_what_is_logged_is_what_is_told(valkey: redis.Redis, tmp_path: Path) -> None:
    """Shuffled, duplicated and noisy traffic, archived in two runs."""
    events = [*world(300, config(), seed=11, uplift=1.3, days=8), *noise()]
    rng = random.Random(5)
    log = [*events, *rng.sample(events, 200)]
    rng.shuffle(log)
    folder = tmp_path / "events"
    for part in (log[: len(log) // 2], log[len(log) // 2 :]):
        archived(valkey, part, folder)
    report = analyze(folder, config())
    assert (report.currency, report.exposure.forced_units) == ("USD", 1)
    micros = {name: totals(events, name) for name in ("old", "new")}
    for name, arm in arms(report).items():
        assert arm.units == len(micros[name])
        assert arm.revenue_micros == sum(micros[name].values())
        assert arm.days[-1].units == arm.units
        assert arm.days[-1].revenue_per_unit == pytest.approx(arm.revenue_per_unit, rel=1e-12)
    money = {name: [total / 1e6 for total in found.values()] for name, found in micros.items()}
    welch = stats.ttest_ind(money["new"], money["old"], equal_var=False)
    (effect,) = report.primary
    assert effect.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    assert effect.interval.low == pytest.approx(welch.confidence_interval().low, rel=1e-9)
    interval = arms(report)["old"].revenue_per_unit_interval
    assert interval is not None
    half = stats.sem(money["old"]) * stats.t.ppf(0.975, len(money["old"]) - 1)
    assert interval.low == pytest.approx(np.mean(money["old"]) - half, rel=1e-9)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_order_and_duplicates_of_the_log_change_nothing(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    events = world(80, config(), seed=12, days=8)
    straight = analyze(archived(valkey, events, tmp_path / "a"), config())
    shuffled = [*events, *events]
    random.Random(1).shuffle(shuffled)
    folder = archived(valkey, shuffled, tmp_path / "b")
    for file in list(folder.glob("day=*/*.parquet")):
        pq.write_table(pq.ParquetFile(file).read(), file.with_name(f"again-{file.name}"))
    assert analyze(folder, config()) == straight


def test_small_log_by_hand(valkey: redis.Redis, tmp_path: Path) -> None:
    a = ranking("a", "u1", [assignment("old")], items=10, total_us=1_000)
    b = ranking("b", "u2", [assignment("old")], items=10, total_us=3_000, degraded=("x", "y"))
    c = ranking("c", "u3", [assignment("new")], items=20, ts_us=START_US + DAY_US)
    d = ranking("d", "u3", [assignment("new")], items=20, ts_us=START_US + 3 * DAY_US)
    e = ranking("e", "u4", [assignment("new")], items=10, ts_us=START_US + 3 * DAY_US)
    bought = conversion(c, 4, 7_500_000)
    events: list[Event] = [
        *(a, b, c, d, e),
        *(impression(a, 0), impression(a, 1), impression(c, 4)),
        *(click(a, 0, "k1"), click(a, 0, "k2"), click(a, 1)),
        *(conversion(a, 0, 2_000_000), conversion(b, 3, 500_000)),
        *(bought, conversion(c, 4, -2_500_000, refund_of=bought.event_id)),
        *(conversion(d, 0, 6_000_000), conversion(d, 1, -1_000_000, refund_of="elsewhere")),
    ]
    report = analyze(archived(valkey, events, tmp_path / "events"), config())
    old, new = report.arms
    assert (old.requests, old.units, old.items, old.revenue_micros) == (2, 2, 20, 2_500_000)
    assert (old.seen_items, old.clicked_items, old.bought_items) == (2, 2, 2)
    assert (old.revenue_per_unit, old.revenue_per_1000_items) == (1.25, 125)
    assert (old.click_rate, old.conversion_rate, old.bought_per_request) == (2 / 20, 2 / 20, 2 / 2)
    assert (old.degraded_share, old.latency and old.latency.p50_ms) == (1 / 2, 2)
    assert (new.requests, new.units, new.items, new.revenue_micros) == (3, 2, 50, 10_000_000)
    assert (new.conversion_rate, new.bought_per_request) == (2 / 50, 2 / 3)
    assert [(day.day.day, day.units, day.revenue_per_unit) for day in old.days] == [
        (1, 2, 1.25), (2, 2, 1.25), (3, 2, 1.25), (4, 2, 1.25),
    ]  # fmt: skip
    assert [(day.day.day, day.units, day.revenue_per_unit) for day in new.days] == [
        (2, 1, 5.0), (3, 1, 5.0), (4, 2, 5.0),
    ]  # fmt: skip
    assert (str(report.exposure.first_day), str(report.exposure.last_day)) == (
        "2026-01-01",
        "2026-01-04",
    )
    assert report.units == 4


def test_a_lift_that_is_there_is_found(valkey: redis.Redis, tmp_path: Path) -> None:
    events = world(400, config(), seed=13, uplift=2.0, days=8)
    folder = archived(valkey, events, tmp_path / "events")
    report = analyze(folder, config(extra="planned_units = 380"))
    assert (report.decision.call, report.decision.variant) == ("ship", "new")
    none = world(400, config(), seed=15, days=8)
    other = archived(valkey, none, tmp_path / "none")
    assert analyze(other, config(extra="planned_units = 380")).decision.call == "hold"


def test_a_broken_split_blocks_every_effect(valkey: redis.Redis, tmp_path: Path) -> None:
    """The traffic was split 80/20, the configuration says 50/50."""
    events = world(400, config((0.8, 0.2)), seed=14, uplift=2.0, days=8)
    report = analyze(archived(valkey, events, tmp_path / "events"), config())
    assert not report.sample_ratio.ok
    assert (report.primary, report.days) == ((), ())
    assert report.decision.call == "blocked"


def test_forced_units_are_left_out_also_of_the_sample_ratio(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    events = world(200, config(), seed=16, days=8)
    forced = [ranking(f"f{n}", f"t{n}", [assignment("new", forced=True)]) for n in range(200)]
    bought = [conversion(answer, 0, 10**9) for answer in forced]
    both = ranking("f200", events[0].unit, [assignment("new", forced=True)])  # split as well
    folder = archived(valkey, [*events, *forced, *bought, both], tmp_path / "events")
    report = analyze(folder, config())
    assert report.sample_ratio.ok
    assert (report.units, report.exposure.forced_units) == (199, 201)
    assert "Units put into a variant by configuration, left out: 201." in report.notes


def test_another_layers_traffic_is_no_exposure(valkey: redis.Redis, tmp_path: Path) -> None:
    """Answers that another experiment split say nothing about this one, whatever it is called."""
    events = world(100, config(), seed=17, days=8)
    elsewhere = assignment("new").model_copy(update={"layer": "page", "key": "new-page"})
    others = [ranking(f"p{n}", f"p{n}", [elsewhere]) for n in range(100)]
    bought = [conversion(answer, 0, 10**9) for answer in others]
    alone = analyze(archived(valkey, events, tmp_path / "alone"), config())
    folder = archived(valkey, [*events, *others, *bought], tmp_path / "events")
    assert analyze(folder, config()) == alone


def test_units_of_several_variants_are_left_out_and_told(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    crossed = [
        ranking("x1", "both", [assignment("old")]),
        ranking("x2", "both", [assignment("new")]),
    ]
    stayed = [ranking("a", "u1", [assignment("old")]), ranking("b", "u2", [assignment("new")])]
    bought = conversion(crossed[1], 0, 10**6)
    folder = archived(valkey, [*crossed, *stayed, bought], tmp_path / "events")
    report = analyze(folder, config())
    assert report.exposure.crossed_units == 1
    assert [arm.requests for arm in report.arms] == [1, 1]
    assert [arm.revenue_micros for arm in report.arms] == [0, 0]
    assert report.notes[0].startswith("Units seen in more than one variant, left out: 1.")
    assert report.decision.call == "blocked"
    only = archived(valkey, crossed, tmp_path / "only")
    with pytest.raises(ReportError, match=r"every unit of new-vs-old revision 1 .* \(1\)"):
        analyze(only, config())


def test_replay_is_explained_only_where_it_is_one(valkey: redis.Redis, tmp_path: Path) -> None:
    folder = archived(valkey, world(40, config(), seed=18, days=8), tmp_path / "events")
    assert analyze(folder, config()).notes == ()
    replayed = config().model_copy(update={"traffic": "replay"})
    assert analyze(folder, replayed).notes == (REPLAY_NOTE,)


def renamed(split: ExperimentConfig) -> ExperimentConfig:
    return ExperimentConfig.model_validate_json(
        split.model_dump_json().replace('"name":"new"', '"name":"newer"')
    )


def test_faults_are_named(valkey: redis.Redis, tmp_path: Path) -> None:
    with pytest.raises(ReadingsError, match=r"empty holds no archived events; serve traffic"):
        analyze(tmp_path / "empty", config())
    answer = ranking("a", "u1", [assignment("new")])
    folder = archived(valkey, [answer], tmp_path / "events")
    with pytest.raises(ExperimentError, match="no experiment 'other'; known are"):
        analyze(folder, config(), "other")
    with pytest.raises(
        ReadingsError, match=r"have variants \['new'\], its configuration has \['old', 'newer'\]"
    ):
        analyze(folder, renamed(config()))
    other = archived(
        valkey, [ranking("a", "u1", [assignment("new", revision=2)])], tmp_path / "other"
    )
    with pytest.raises(ReadingsError, match="holds no answer of new-vs-old revision 1; serve"):
        analyze(other, config())
    append(valkey, [conversion(answer, 0, 5), conversion(answer, 1, 5, currency="EUR")])
    archived(valkey, [], folder)
    with pytest.raises(ReadingsError, match=r"revenue of new-vs-old is in \['EUR', 'USD'\]"):
        analyze(folder, config())


def test_importing_it_draws_nothing() -> None:
    code = "import sys, abtest.report.making; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
