"""Histograms and tallies: right to a percent, and the same added up as counted at once."""

import json
import math
from random import Random

import pytest

from loadtest.answer import Outcome, Route, Verdict
from loadtest.histogram import Histogram
from loadtest.tally import Call, PhaseTally, Tally, window_s


def histogram(latencies_ms: list[float]) -> Histogram:
    found = Histogram()
    for latency_ms in latencies_ms:
        found.add(latency_ms)
    return found


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_percentiles_are_right_to_a_percent(share: float) -> None:
    rng = Random(3)
    latencies_ms = sorted(rng.lognormvariate(2, 1.5) for _ in range(5001))
    exact = latencies_ms[math.ceil(share * 5001) - 1]
    assert histogram(latencies_ms).percentile_ms(share) == pytest.approx(exact, rel=0.0101)


def test_histograms_add_up_also_as_messages() -> None:
    parts = [[1.0, 2.0, 700.0], [3.0, 5000.0]]
    whole = histogram([*parts[0], *parts[1]])
    found = histogram(parts[0])
    found.merge(Histogram.from_dict(json.loads(json.dumps(histogram(parts[1]).to_dict()))))
    assert found == whole
    assert found.largest_ms == 5000.0


def test_a_histogram_of_nothing_and_of_next_to_nothing() -> None:
    assert math.isnan(Histogram().percentile_ms(0.5))
    assert histogram([0.0, -1.0]).percentile_ms(0.5) == 0.0


def call(outcome: Outcome, latency_ms: float, *reasons: str) -> Call:
    return Call(Route.RECOMMEND, Verdict(outcome, reasons), latency_ms, latency_ms / 2)


CALLS = [
    call(Outcome.OK, 10),
    call(Outcome.OK, 200),
    call(Outcome.DEGRADED, 20, "no store", "no ranker"),
    call(Outcome.SHED, 1),
    call(Outcome.FAILED, 5000, "no answer"),
]


def test_shed_ones_have_no_latency_and_only_valid_ones_are_in_time() -> None:
    tally = Tally()
    for one in CALLS:
        tally.add(one, within_ms=100)
    assert (tally.requests, tally.valid, tally.in_time) == (5, 3, 2)
    assert tally.share(Outcome.SHED) == tally.share(Outcome.FAILED) == 1 / 5
    assert tally.in_time_share == 2 / 5
    assert tally.latency.counts.total() == tally.service.counts.total() == 4
    assert tally.latency.largest_ms == 5000
    assert tally.service.largest_ms == 2500
    assert dict(tally.degraded) == {"no store": 1, "no ranker": 1}
    assert dict(tally.failures) == {"no answer": 1}
    assert Tally().in_time_share == Tally().share(Outcome.OK) == 0.0


def test_phases_add_up_also_as_messages() -> None:
    whole, parts = PhaseTally(), [PhaseTally(), PhaseTally()]
    for number, one in enumerate(CALLS):
        for phase in (whole, parts[number % 2]):
            phase.routes[one.route].add(one, 100)
            phase.windows[number // 2].add(one, 100)
            phase.lateness.add(number)
    found = PhaseTally()
    for part in parts:
        found.merge(PhaseTally.from_dict(json.loads(json.dumps(part.to_dict()))))
    assert found == whole


def test_windows_are_a_second_or_a_sixtieth() -> None:
    assert (window_s(10), window_s(60), window_s(600)) == (1.0, 1.0, 10.0)
