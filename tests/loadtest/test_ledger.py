import math

from loadtest.ledger import NO_EXPERIMENT, Ledger, percentile


def test_sales_are_booked_under_every_variant() -> None:
    ledger = Ledger(latencies_ms=[1.0, 2.0, 3.0])
    both = [{"key": "a", "variant": "x"}, {"key": "b", "variant": "y"}]
    ledger.book(both, [5, 7])
    ledger.book(both[:1], [])
    ledger.book([], [1])
    ledger.failures.append("trip 9: lost")
    assert ledger.summary("run") == {
        "run_id": "run",
        "trips": 3,
        "failed_trips": 1,
        "failures": ["trip 9: lost"],
        "accounts": {
            "a/x": {"requests": 2, "conversions": 2, "revenue_micros": 12},
            "b/y": {"requests": 1, "conversions": 2, "revenue_micros": 12},
            NO_EXPERIMENT: {"requests": 1, "conversions": 1, "revenue_micros": 1},
        },
        "recommend_ms": {"p50": 2.0, "p95": 3.0, "p99": 3.0},
    }


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (0.0, 0.5, 0.95, 0.99, 1.0)] == [1, 50, 95, 99, 100]
    assert math.isnan(percentile([], 0.5))
