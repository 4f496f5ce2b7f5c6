import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis
from scipy import stats

from abtest.events import ConversionEvent, Event, RankingEvent
from abtest.log.archive import archive
from abtest.report.report import Arm, Report, ReportError, analyze
from abtest.report.verdict import REPLAY_NOTE
from abtest.split.config import ExperimentConfig
from abtest.split.experiment import ExperimentError
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
    ranking,
    world,
)


def arms(report: Report) -> dict[str, Arm]:
    return {arm.name: arm for arm in report.arms}


def noise() -> list[Event]:
    """Traffic that must not count: forced, of another revision, of no experiment, orphaned."""
    forced = ranking("f1", "forced", [assignment("new", forced=True)])
    older = ranking("o1", "older", [assignment("new", revision=2)])
    outside = ranking("n1", "outside", [])
    orphan = ranking("gone", "orphan", [assignment("new")])
    return [
        forced,
        conversion(forced, 0, 10**12),
        older,
        conversion(older, 0, 10**12, currency="EUR"),
        outside,
        conversion(outside, 0, 10**12),
        conversion(orphan, 0, 10**12),
    ]


def recompute(events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """The report's numbers from the raw events, in plain Python and numpy."""
    unique = {event.event_id: event for event in events}.values()
    answers: dict[str, tuple[str, RankingEvent]] = {}
    for event in unique:
        if isinstance(event, RankingEvent):
            for given in event.experiments:
                if given.key == KEY and given.revision == 1 and not given.forced:
                    answers[event.request_id] = (given.variant, event)
    found: dict[str, dict[str, Any]] = {}
    for name in ("old", "new"):
        mine = [event for variant, event in answers.values() if variant == name]
        micros: dict[str, int] = {event.unit: 0 for event in mine}
        taken: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for event in unique:
            variant, answer = answers.get(event.request_id, (None, None))
            if variant != name or answer is None or isinstance(event, RankingEvent):
                continue
            if isinstance(event, ConversionEvent):
                micros[answer.unit] += event.revenue_micros
            if not isinstance(event, ConversionEvent) or event.refund_of is None:
                taken[event.type].add((event.request_id, event.item_id))
        found[name] = {
            "requests": len(mine),
            "micros": micros,
            "items": sum(len(event.item_ids) for event in mine),
            "clicked": len(taken["click"]),
            "bought": len(taken["conversion"]),
            "latency": [event.latency_us["total"] / 1000 for event in mine],
            "degraded": sum(bool(event.degraded) for event in mine),
        }
    return found


@pytest.fixture
def busy(valkey: redis.Redis, tmp_path: Path) -> tuple[Path, list[Event]]:
    """Shuffled, duplicated and noisy traffic of 300 units, archived in two runs."""
    events = [*world(300, config(), seed=11, uplift=1.3), *noise()]
    rng = random.Random(5)
    log = [*events, *rng.sample(events, 200)]
    rng.shuffle(log)
    for part in (log[: len(log) // 2], log[len(log) // 2 :]):
        append(valkey, part)
        archive(valkey, tmp_path / "events")
    return tmp_path / "events", events


def test_every_number_equals_a_second_computation(busy: tuple[Path, list[Event]]) -> None:
    folder, events = busy
    report = analyze(folder, config(), KEY)
    expected = recompute(events)
    assert report.currency == "USD"
    assert report.crossed_units == 0
    for name, arm in arms(report).items():
        want = expected[name]
        assert arm.requests == want["requests"]
        assert arm.units == len(want["micros"])
        assert arm.items == want["items"]
        assert arm.revenue_micros == sum(want["micros"].values())
        assert arm.revenue_per_unit == arm.revenue_micros / (arm.units * 10**6)
        per_1000 = 1000 * arm.revenue_micros / 10**6 / want["items"]
        assert arm.revenue_per_1000_items == pytest.approx(per_1000, rel=1e-12)
        assert arm.click_rate == want["clicked"] / want["items"]
        assert arm.conversion_rate == want["bought"] / want["items"]
        assert arm.bought_per_request == want["bought"] / want["requests"]
        assert arm.degraded_share == pytest.approx(want["degraded"] / want["requests"])
        assert arm.latency == pytest.approx(np.percentile(want["latency"], [50, 95, 99]), rel=1e-12)
        assert arm.days[-1].units == arm.units
        assert arm.days[-1].revenue_per_unit == pytest.approx(arm.revenue_per_unit, rel=1e-12)
    samples = {
        name: [micros / 1e6 for micros in want["micros"].values()]
        for name, want in expected.items()
    }
    welch = stats.ttest_ind(samples["new"], samples["old"], equal_var=False)
    (lift,) = report.lifts
    assert lift.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    assert lift.absolute_interval.low == pytest.approx(welch.confidence_interval().low, rel=1e-9)
    assert lift.absolute_interval.high == pytest.approx(welch.confidence_interval().high, rel=1e-9)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_order_and_duplicates_of_the_log_change_nothing(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    events = world(80, config(), seed=12)
    straight = analyze(archived(valkey, events, tmp_path / "a"), config(), KEY)
    shuffled = [*events, *events]
    random.Random(1).shuffle(shuffled)
    folder = archived(valkey, shuffled, tmp_path / "b")
    for file in list(folder.glob("day=*/*.parquet")):
        pq.write_table(pq.ParquetFile(file).read(), file.with_name(f"again-{file.name}"))
    assert analyze(folder, config(), KEY) == straight


def test_small_log_by_hand(valkey: redis.Redis, tmp_path: Path) -> None:
    a = ranking("a", "u1", [assignment("old")], items=10, total_us=1_000)
    b = ranking("b", "u2", [assignment("old")], items=10, total_us=3_000, degraded=("x", "y"))
    c = ranking("c", "u3", [assignment("new")], items=20, ts_us=START_US + DAY_US)
    d = ranking("d", "u3", [assignment("new")], items=20, ts_us=START_US + 3 * DAY_US)
    e = ranking("e", "u4", [assignment("new")], items=10, ts_us=START_US + 3 * DAY_US)
    bought = conversion(c, 4, 7_500_000)
    events: list[Event] = [
        *(a, b, c, d, e),
        *(click(a, 0, "k1"), click(a, 0, "k2"), click(a, 1)),
        *(conversion(a, 0, 2_000_000), conversion(b, 3, 500_000)),
        *(bought, conversion(c, 4, -2_500_000, refund_of=bought.event_id)),
        *(conversion(d, 0, 6_000_000), conversion(d, 1, -1_000_000, refund_of="elsewhere")),
    ]
    found = arms(analyze(archived(valkey, events, tmp_path), config(), KEY))
    old, new = found["old"], found["new"]
    assert (old.requests, old.units, old.items, old.revenue_micros) == (2, 2, 20, 2_500_000)
    assert (old.revenue_per_unit, old.revenue_per_1000_items) == (1.25, 125)
    assert (old.click_rate, old.conversion_rate, old.bought_per_request) == (2 / 20, 2 / 20, 2 / 2)
    assert (old.degraded_share, old.latency and old.latency.p50_ms) == (1 / 2, 2)
    assert (new.requests, new.units, new.items, new.revenue_micros) == (3, 2, 50, 10_000_000)
    assert (new.conversion_rate, new.bought_per_request) == (2 / 50, 2 / 3)
    assert [(str(day.day), day.units, day.revenue_per_unit) for day in old.days] == [
        ("2026-01-01", 2, 1.25),
        ("2026-01-02", 2, 1.25),
        ("2026-01-04", 2, 1.25),
    ]
    assert [(str(day.day), day.units, day.revenue_per_unit) for day in new.days] == [
        ("2026-01-02", 1, 5.0),
        ("2026-01-04", 2, 5.0),
    ]


def test_a_lift_that_is_there_is_found(valkey: redis.Redis, tmp_path: Path) -> None:
    events = world(400, config(), seed=13, uplift=2.0)
    report = analyze(archived(valkey, events, tmp_path), config(), KEY)
    (lift,) = report.lifts
    assert lift.absolute_interval.low > 0
    assert report.verdict.startswith("new earned more than old, and the interval excludes 0")


def test_a_broken_split_blocks_every_effect(valkey: redis.Redis, tmp_path: Path) -> None:
    events = world(400, config((0.8, 0.2)), seed=14, uplift=2.0)
    report = analyze(archived(valkey, events, tmp_path), config(), KEY)
    assert not report.sample_ratio.ok
    assert report.lifts == ()
    assert report.verdict.startswith("Do not compare these variants.")


def test_an_arm_without_traffic_is_all_zeros(valkey: redis.Redis, tmp_path: Path) -> None:
    events = [ranking("a", "u1", [assignment("old")]), ranking("b", "u2", [assignment("old")])]
    report = analyze(archived(valkey, events, tmp_path), config(), KEY)
    new = arms(report)["new"]
    assert (new.requests, new.units, new.revenue_per_unit, new.click_rate) == (0, 0, 0, 0)
    assert new.latency is None
    assert new.days == ()
    assert report.currency is None
    assert report.verdict.startswith("No comparison is possible yet")


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
    report = analyze(folder, config(), KEY)
    assert report.crossed_units == 1
    assert [arm.requests for arm in report.arms] == [1, 1]
    assert [arm.revenue_micros for arm in report.arms] == [0, 0]
    assert report.notes[0].startswith("Households seen in more than one variant, left out: 1.")
    only = archived(valkey, crossed, tmp_path / "only")
    with pytest.raises(ReportError, match=r"every household of new-vs-old revision 1 .* \(1\)"):
        analyze(only, config(), KEY)


def test_replay_is_explained_only_where_it_is_one(busy: tuple[Path, list[Event]]) -> None:
    assert analyze(busy[0], config(), KEY).notes == ()
    assert analyze(busy[0], config(), KEY, replay=True).notes == (REPLAY_NOTE,)


def renamed(split: ExperimentConfig) -> ExperimentConfig:
    return ExperimentConfig.model_validate_json(
        split.model_dump_json().replace('"name":"new"', '"name":"newer"')
    )


def test_faults_are_named(valkey: redis.Redis, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"empty holds no archived events; serve traffic"):
        analyze(tmp_path / "empty", config(), KEY)
    answer = ranking("a", "u1", [assignment("new")])
    folder = archived(valkey, [answer], tmp_path / "events")
    with pytest.raises(ExperimentError, match="no experiment 'other'"):
        analyze(folder, config(), "other")
    with pytest.raises(
        ReportError, match=r"have variants \['new'\], its configuration has \['old', 'newer'\]"
    ):
        analyze(folder, renamed(config()), KEY)
    other = archived(
        valkey, [ranking("a", "u1", [assignment("new", revision=2)])], tmp_path / "other"
    )
    with pytest.raises(ReportError, match="holds no answer of new-vs-old revision 1; serve"):
        analyze(other, config(), KEY)
    append(valkey, [conversion(answer, 0, 5), conversion(answer, 1, 5, currency="EUR")])
    archive(valkey, folder)
    with pytest.raises(ReportError, match=r"revenue of new-vs-old is in \['EUR', 'USD'\]"):
        analyze(folder, config(), KEY)


def test_importing_it_draws_nothing() -> None:
    code = "import sys, abtest.report.report; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
