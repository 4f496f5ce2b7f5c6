import random
from collections.abc import Iterator
from datetime import date
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from abtest.analysis.metric import Kind, Metric, MetricError
from abtest.analysis.metrics_file import load_metrics, parse_metrics
from abtest.analysis.readings import tally
from abtest.analysis.readings.readings import Readings, ReadingsError, read
from abtest.analysis.readings.rollup import update
from abtest.analysis.readings.subject import Subject
from abtest.analysis.sample import Sample
from abtest.events import Event
from tests.abtest.analysis.readings.log import (
    HOLDOUT,
    KEY,
    OTHER,
    PERIODS,
    SUBJECT,
    Expected,
    Oracle,
    bits,
    day_of,
    world,
    write,
)
from tests.abtest.traffic import assignment, click, conversion, impression, ranking

METRICS = load_metrics() | parse_metrics(
    """
    [metrics.early_revenue]
    title = "Revenue of the first two days"
    numerator = { event = "conversion", value = "revenue" }
    window_days = 2
    covariate_days = 2

    [metrics.orders]
    title = "Conversions"
    numerator = { event = "conversion" }

    [metrics.dear_orders]
    title = "Items bought for 9.99 or more"
    numerator = { event = "conversion", value = "items", where = { revenue = { at_least = 9.99 } } }

    [metrics.top_clicks]
    title = "Clicks on the first two places, by seen items"
    kind = "ratio"
    window_days = 3
    numerator = { event = "click", where = { position = { below = 2 } } }
    denominator = { event = "impression", value = "items", where = { item_id = ["i0", "i1", "x"] } }

    [metrics.slow_answers]
    title = "Slow answers of a bundle where the context says so"
    covariate_days = 0

    [metrics.slow_answers.numerator]
    event = "ranking"

    [metrics.slow_answers.numerator.where]
    latency = { at_least = 10.5 }
    bundle = "b@1"
    "context.country" = ["DE", "ÖÄ\\"'"]
    "context.age" = { at_least = 1.5, below = 9 }

    [metrics.order_value]
    title = "Value of a conversion, median"
    kind = "quantile"
    quantile = 0.5
    window_days = 2
    numerator = { event = "conversion", value = "revenue" }
    """,
    "own",
)
SUBJECTS = (
    SUBJECT,
    Subject(KEY, 1, ("old", "new")),
    Subject(OTHER, 1, ("left", "right")),
    Subject(PERIODS, 1, ("low", "high")),
    Subject(HOLDOUT, 1, ("held", "open")),
)
MEANS = [metric for metric in METRICS.values() if metric.kind is not Kind.QUANTILE]
QUANTILES = [metric for metric in METRICS.values() if metric.kind is Kind.QUANTILE]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    folder = tmp_path_factory.mktemp("archive")
    events = world(5)
    write(folder / "events", events, files=3)
    oracle = Oracle(events, SUBJECT)
    assert min(len(oracle.crossed), len(oracle.forced)) > 1, "the world lacks what is tested"
    return folder, events


def reading(folder: Path, subject: Subject = SUBJECT) -> Readings:
    return read(folder / "events", folder / "rollups", subject, METRICS)


def assert_equal(found: Sample, expected: Expected) -> None:
    for got, want in zip(found, expected, strict=True):
        assert bits(got) == bits(want)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: f"{subject.key}-{subject[1]}")
def test_every_sample_equals_plain_python_bit_for_bit(
    archive: tuple[Path, list[Event]], subject: Subject
) -> None:
    folder, events = archive
    readings, oracle = reading(folder, subject), Oracle(events, subject)
    middle = readings.days[len(readings.days) // 2]
    filters = ((None, None, None), (None, middle, None), (("country", "DE"), None, None))
    for metric, variant, chosen in product(
        MEANS, subject.variants, (*filters, (None, middle, middle))
    ):
        segment, until, since = chosen
        found = readings.sample(metric, variant, segment=segment, until=until, since=since)
        assert_equal(found, oracle.sample(metric, variant, segment, until, since))
    for metric, variant in product(QUANTILES, subject.variants):
        values = readings.values(metric, variant)
        assert values.number_units == len(oracle.chosen(variant))
        pairs = list(zip(values.units.tolist(), values.values.tolist(), strict=True))
        assert pairs == oracle.values(metric, variant)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: f"{subject.key}-{subject[1]}")
def test_counts_and_who_is_left_out_equal_plain_python(
    archive: tuple[Path, list[Event]], subject: Subject
) -> None:
    folder, events = archive
    readings, oracle = reading(folder, subject), Oracle(events, subject)
    assert readings.crossed_units == len(oracle.crossed)
    assert readings.forced_units == len(oracle.forced)
    assert readings.clustered == oracle.clustered
    assert readings.currency == "USD"
    assert list(readings.counts) == list(subject.variants)
    for name, counts in readings.counts.items():
        assert counts.units == len(oracle.chosen(name)) == sum(day.new_units for day in counts.days)
        assert counts.requests == oracle.total(tally.REQUESTS, name)
        assert counts.items == oracle.total(tally.ITEMS, name)
        assert counts.seen_items == oracle.total(tally.SEEN, name)
        assert counts.clicked_items == oracle.total(tally.CLICKED, name)
        assert counts.bought_items == oracle.total(tally.BOUGHT, name)
        assert counts.revenue_micros == oracle.total(tally.REVENUE, name)
        assert counts.revenue_micros == sum(day.revenue_micros for day in counts.days)
        assert counts.degraded == oracle.total(tally.DEGRADED, name)
        latency = [ms for _, ms in oracle.values(METRICS["latency_p50"], name)]
        assert counts.latency == pytest.approx(np.percentile(latency, [50, 95, 99]))
    countries = {
        value: sum(len(oracle.chosen(name, ("country", value))) for name in subject.variants)
        for value in readings.segment_values("country")
    }
    assert readings.segment_values("country") == countries
    assert list(countries.values()) == sorted(countries.values(), reverse=True)
    assert readings.segment_values("nothing") == {}


def everything(folder: Path) -> Iterator[object]:
    """All that readings say, money and times as bits."""
    for subject in (SUBJECTS[0], SUBJECTS[3]):
        readings = reading(folder, subject)
        yield readings.subject, readings.counts, readings.days, readings.unexposed_feedback
        for metric, variant in product(MEANS, subject.variants):
            yield tuple(map(bits, readings.sample(metric, variant)))
        for metric, variant in product(QUANTILES, subject.variants):
            values = readings.values(metric, variant)
            yield bits(values.values), values.units.tolist()


def test_shuffled_split_and_duplicated_files_give_the_same_bits(
    archive: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    folder, events = archive
    rng = random.Random(4)
    shuffled = rng.sample(events, len(events))
    for number in range(2):
        # Each round is rolled up before the next one comes, which repeats events of the first.
        write(tmp_path / "events", shuffled[number::2], files=2, tag=f"n{number}")
        write(tmp_path / "events", rng.sample(shuffled[::2], 20), tag=f"again{number}")
        update(tmp_path / "events", tmp_path / "rollups", METRICS)
    write(tmp_path / "events", events[::3], tag="restored")
    assert list(everything(tmp_path)) == list(everything(folder))


def test_feedback_without_an_exposure_is_left_out_and_told(tmp_path: Path) -> None:
    exposed = ranking("a", "u1", [assignment("new")])
    unsplit = ranking("b", "u1", [])
    orphan = ranking("c", "u2", [assignment("old")])
    feedback = [click(answer, 0) for answer in (exposed, unsplit, orphan)]
    write(tmp_path / "events", [exposed, unsplit, *feedback])
    readings = reading(tmp_path, Subject(KEY, 1, ("old", "new")))
    assert readings.unexposed_feedback == 2
    assert [counts.units for counts in readings.counts.values()] == [0, 1]
    assert [counts.clicked_items for counts in readings.counts.values()] == [0, 1]
    assert len(readings.sample(METRICS["click_rate"], "old").numerator) == 0
    assert readings.counts["old"].latency is None
    assert readings.counts["old"].days == ()


def test_files_of_before_contexts_and_clusters_are_read_with_new_ones(tmp_path: Path) -> None:
    events = [ranking(f"r{n}", f"u{n}", [assignment("new")]) for n in range(4)]
    write(tmp_path / "events", events[:2], tag="old")
    (file,) = (tmp_path / "events").glob("*/old-0.parquet")
    table = pq.read_table(file, partitioning=None).drop_columns(["context", "teams"])
    plain = [
        [{k: v for k, v in given.items() if k != "cluster"} for given in row]
        for row in table["assignments"].to_pylist()
    ]
    at = table.schema.get_field_index("assignments")
    pq.write_table(table.set_column(at, "assignments", [plain]), file)
    subject = Subject(KEY, 1, ("old", "new"))
    assert reading(tmp_path, subject).counts["new"].units == 2
    assert reading(tmp_path, subject).segment_values("store") == {}
    write(tmp_path / "events", events[2:], tag="new")
    assert reading(tmp_path, subject).counts["new"].units == 4
    assert reading(tmp_path, subject).segment_values("store") == {"367": 2}


def test_an_item_counts_once_wherever_its_feedback_stands(tmp_path: Path) -> None:
    answer = ranking("a", "u1", [assignment("new")], items=200)
    subject = Subject(KEY, 1, ("old", "new"))
    write(tmp_path / "events", [answer, *(impression(answer, n) for n in (0, 199))], tag="a")
    assert reading(tmp_path, subject).counts["new"].seen_items == 2
    for day in range(1, 4):
        seen = impression(answer, 199)
        later = {"event_id": f"again{day}", "event_ts_us": seen.event_ts_us + day * 86_400 * 10**6}
        write(tmp_path / "events", [seen.model_copy(update=later)], tag=f"b{day}")
        assert reading(tmp_path, subject).counts["new"].seen_items == 2
    first = readings_of_day(tmp_path, subject, day_of(answer.event_ts_us))
    assert bits(first.numerator) == bits([2.0])


def readings_of_day(folder: Path, subject: Subject, day: date) -> Sample:
    metric = Metric(name="seen", title="Seen", numerator=tally.SEEN)
    return reading(folder, subject).sample(metric, "new", until=day, since=day)


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReadingsError, match=r"events holds no archived events; serve traffic"):
        reading(tmp_path)
    answer = ranking("a", "u1", [assignment("new")])
    write(tmp_path / "events", [answer])
    with pytest.raises(ReadingsError, match="holds no answer of new-vs-old revision 2; serve"):
        reading(tmp_path)
    with pytest.raises(ReadingsError, match=r"variants \['new'\], its configuration has \['old'\]"):
        reading(tmp_path, Subject(KEY, 1, ("old",)))
    readings = reading(tmp_path, Subject(KEY, 1, ("old", "new")))
    with pytest.raises(MetricError, match=r"metric latency_p50 is a quantile; take its values"):
        readings.sample(METRICS["latency_p50"], "new")
    with pytest.raises(MetricError, match=r"metric click_rate is a ratio; take its sample"):
        readings.values(METRICS["click_rate"], "new")
    unread = Metric.model_validate(
        {"name": "x", "title": "x", "numerator": {"event": "click", "where": {"item_id": "x"}}}
    )
    with pytest.raises(MetricError, match=r"measure click_events_\w+ was not read; known are"):
        readings.sample(unread, "new")
    euros = conversion(answer, 0, 5, currency="EUR")
    write(tmp_path / "events", [euros, conversion(answer, 1, 5)], tag="sales")
    with pytest.raises(ReadingsError, match=r"revenue of new-vs-old is in \['EUR', 'USD'\]; a rep"):
        reading(tmp_path, Subject(KEY, 1, ("old", "new")))
