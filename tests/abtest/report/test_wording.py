import pytest

from abtest.analysis.statistics.effect import Interval
from abtest.report.wording import (
    count,
    difference_text,
    interval_text,
    money,
    p_text,
    percent,
    relative_interval_text,
    relative_text,
    value_text,
)
from tests.abtest.report.made import METRICS


def test_amounts() -> None:
    assert money(1234.5, "USD") == "1,234.50 USD"
    assert money(0.01234, "USD", signed=True) == "+0.0123 USD"
    assert money(0.01234, None, beside=(-3, 3)) == "0.01"
    assert money(0, None) == "0.00"
    assert percent(0.0412) == "4.12 %"
    assert (p_text(0.25), p_text(3e-9), p_text(0.0), p_text(None)) == (
        "0.2500",
        "3.0e-09",
        "0",
        "n/a",
    )
    assert (count(1, "unit"), count(1200, "unit")) == ("1 unit", "1,200 units")


@pytest.mark.parametrize(
    ("metric", "value", "difference", "interval"),
    [
        ("revenue_per_unit", "12.50 USD", "+12.50 USD", "-1.50 to +26.50"),
        ("click_rate", "1250.00 %", "+1250.00 pp", "-150.00 to +2650.00"),
        ("latency_p99", "12.5 ms", "+12.5 ms", "-1.5 to +26.5"),
        ("requests_per_unit", "12.500", "+12.500", "-1.500 to +26.500"),
    ],
)
def test_every_format(metric: str, value: str, difference: str, interval: str) -> None:
    found = METRICS[metric]
    assert value_text(12.5, found, "USD") == value
    assert difference_text(12.5, found, "USD") == difference
    assert interval_text(Interval(low=-1.5, high=26.5), found) == interval


def test_intervals_have_the_decimals_of_the_widest() -> None:
    revenue = METRICS["revenue_per_unit"]
    assert interval_text(Interval(low=0.1, high=0.2), revenue) == "+0.1000 to +0.2000"
    assert interval_text(Interval(low=0.1, high=0.2), revenue, beside=3) == "+0.10 to +0.20"
    assert interval_text(None, revenue) == "n/a"
    assert relative_interval_text(Interval(low=-0.01, high=0.5)) == "-1.00 to +50.00 %"
    assert (relative_interval_text(None), relative_text(None)) == ("n/a", "n/a")
