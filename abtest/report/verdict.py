"""Verdict: what a comparison says, in plain words."""

from collections.abc import Iterable, Sequence

from abtest.analysis.statistics import SAMPLE_RATIO_P, Interval, Lift, SampleRatio

REPLAY_NOTE = (
    "This traffic is a replay of logged purchases. The households never saw these recommendations: "
    "revenue here is money they spent anyway, on items that the variant had put into its list. So "
    "the report measures how much of the real demand each variant anticipates, not how many extra "
    "sales it causes; only live traffic can show that. Comparing the variants with each other is "
    "still sound: every household was assigned at random, and all were counted in the same way."
)


def money(
    value: float, currency: str | None, *, beside: Iterable[float] = (), signed: bool = False
) -> str:
    """An amount with its currency, in four decimals where it and those beside it are below one."""
    largest = max(abs(value), *map(abs, beside), 0.0)
    decimals = 4 if 0 < largest < 1 else 2
    return f"{value:{'+' if signed else ''},.{decimals}f} {currency or ''}".rstrip()


def lift_text(lift: Lift, currency: str | None) -> str:
    """A lift in money, with as many decimals as its interval."""
    interval = lift.absolute_interval
    return money(lift.absolute, currency, beside=(interval.low, interval.high), signed=True)


def interval_text(interval: Interval | None, *, signed: bool = False) -> str:
    """Both ends of an interval of money, without the currency."""
    if interval is None:
        return "n/a"
    ends = (interval.low, interval.high)
    return " to ".join(money(end, None, beside=ends, signed=signed) for end in ends)


def percent(share: float, *, signed: bool = False) -> str:
    """A share as a percentage."""
    return f"{100 * share:{'+' if signed else ''}.2f} %"


def p_text(p_value: float) -> str:
    """A p-value with the digits that matter."""
    return f"{p_value:.4f}" if p_value >= 1e-4 else f"{p_value:.1e}"


def verdict(ratio: SampleRatio, lifts: Sequence[Lift], control: str, currency: str | None) -> str:
    """Say which variant earned more and whether chance explains it; a broken split says no more.

    Args:
        ratio: the sample ratio check, which comes first.
        lifts: every variant that could be tested against the control.
        control: name of the control.
        currency: of the money, None as long as nothing was bought.
    """
    if not ratio.ok:
        return (
            f"Do not compare these variants. The households are not split as configured: sample "
            f"ratio mismatch, p = {p_text(ratio.p_value)}, below {SAMPLE_RATIO_P:g}. Some traffic "
            "was assigned, served or logged differently; find out why before reading any effect."
        )
    if not lifts:
        return (
            "No comparison is possible yet: each variant needs at least two households, "
            "and some revenue."
        )
    return " ".join(_sentence(lift, control, currency) for lift in lifts)


def _sentence(lift: Lift, control: str, currency: str | None) -> str:
    low, high = lift.absolute_interval.low, lift.absolute_interval.high
    winner, loser = (lift.variant, control) if lift.absolute >= 0 else (control, lift.variant)
    relative = "" if lift.relative is None else f" ({percent(lift.relative, signed=True)})"
    numbers = (
        f"the lift of {lift.variant} is "
        f"{lift_text(lift, currency)} a household{relative}, "
        f"95 % interval {interval_text(lift.absolute_interval, signed=True)} {currency or ''}, "
        f"p = {p_text(lift.p_value)}"
    )
    if lift.absolute == 0:
        return f"{lift.variant} and {control} earned the same in this sample: {numbers}."
    if low <= 0 <= high:
        return (
            f"{winner} earned more than {loser} in this sample, but the interval includes 0, so "
            f"chance may explain it: {numbers}."
        )
    return f"{winner} earned more than {loser}, and the interval excludes 0: {numbers}."
