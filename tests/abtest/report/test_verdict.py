import pytest

from abtest.analysis.statistics import Interval, Lift, SampleRatio
from abtest.report.verdict import interval_text, money, p_text, percent, verdict

FAIR = SampleRatio(p_value=0.4, ok=True, expected={"old": 5, "new": 5})
BROKEN = SampleRatio(p_value=1e-9, ok=False, expected={"old": 5, "new": 5})


def lift(absolute: float, low: float, high: float, relative: float | None = 0.04) -> Lift:
    return Lift(
        variant="new",
        absolute=absolute,
        absolute_interval=Interval(low=low, high=high),
        relative=relative,
        relative_interval=None,
        p_value=0.012,
    )


def test_amounts() -> None:
    assert money(1234.5, "USD") == "1,234.50 USD"
    assert money(0.01234, "USD", signed=True) == "+0.0123 USD"
    assert money(0.01234, None, beside=(-3, 3)) == "0.01"
    assert money(0, None) == "0.00"
    assert interval_text(Interval(low=-0.5, high=2), signed=True) == "-0.50 to +2.00"
    assert interval_text(Interval(low=0.1, high=0.2)) == "0.1000 to 0.2000"
    assert interval_text(None) == "n/a"
    assert percent(0.0412) == "4.12 %"
    assert (p_text(0.25), p_text(3e-9)) == ("0.2500", "3.0e-09")


@pytest.mark.parametrize(
    ("found", "start"),
    [
        (lift(0.5, 0.1, 0.9), "new earned more than old, and the interval excludes 0: the lift of"),
        (lift(-0.5, -0.9, -0.1), "old earned more than new, and the interval excludes 0: the lift"),
        (lift(0.5, -0.1, 1.1), "new earned more than old in this sample, but the interval include"),
        (lift(-0.5, -1.1, 0.1), "old earned more than new in this sample, but the interval includ"),
        (lift(0, -1, 1), "new and old earned the same in this sample: the lift of new is +0.00"),
    ],
)
def test_who_earned_more(found: Lift, start: str) -> None:
    assert verdict(FAIR, [found], "old", "USD").startswith(start)


def test_numbers_are_told() -> None:
    assert verdict(FAIR, [lift(2.5, 1.25, 3.75)], "old", "USD").endswith(
        "the lift of new is +2.50 USD a household (+4.00 %), "
        "95 % interval +1.25 to +3.75 USD, p = 0.0120."
    )
    assert "a household, 95 %" in verdict(FAIR, [lift(2.5, 1, 4, None)], "old", "USD")


def test_a_broken_split_comes_first_and_hides_the_lift() -> None:
    text = verdict(BROKEN, [lift(2.5, 1.25, 3.75)], "old", "USD")
    assert "sample ratio mismatch, p = 1.0e-09, below 0.0005" in text
    assert "2.5" not in text
