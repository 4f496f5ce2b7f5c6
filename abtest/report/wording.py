"""Wording: how numbers are written, once for the text, the page and the reasons of a decision."""

from collections.abc import Iterable

from abtest.analysis.metric import Format, Metric
from abtest.analysis.statistics.effect import Effect, Interval

NONE = "n/a"

REPLAY_NOTE = (
    "This traffic is a replay of logged purchases. The users never saw these recommendations: "
    "revenue here is money they spent anyway, on items that the variant had put into its list. So "
    "the report measures how much of the real demand each variant anticipates, not how many extra "
    "sales it causes; only live traffic can show that. Comparing the variants with each other is "
    "still sound: every unit was assigned at random, and all were counted in the same way."
)


def money(
    value: float, currency: str | None, *, beside: Iterable[float] = (), signed: bool = False
) -> str:
    """An amount with its currency, in four decimals where it and those beside it are below one."""
    decimals = _decimals((value, *beside))
    return f"{value:{'+' if signed else ''},.{decimals}f} {currency or ''}".rstrip()


def percent(share: float, *, signed: bool = False) -> str:
    """A share as a percentage."""
    return f"{100 * share:{'+' if signed else ''}.2f} %"


def p_text(p_value: float | None) -> str:
    """A p-value with the digits that matter."""
    if p_value is None:
        return NONE
    if p_value < 1e-300:
        return "0"
    return f"{p_value:.4f}" if p_value >= 1e-4 else f"{p_value:.1e}"


def value_text(value: float, metric: Metric, currency: str | None) -> str:
    """A value of a metric, with its unit."""
    match metric.format:
        case Format.MONEY:
            return money(value, currency)
        case Format.SHARE:
            return percent(value)
        case Format.MS:
            return f"{value:,.1f} ms"
        case Format.COUNT:
            return f"{value:,.3f}"


def difference_text(
    value: float, metric: Metric, currency: str | None, *, beside: Iterable[float] = ()
) -> str:
    """A signed difference of two values of a metric; shares differ in percentage points."""
    match metric.format:
        case Format.MONEY:
            return money(value, currency, beside=beside, signed=True)
        case Format.SHARE:
            return f"{100 * value:+.2f} pp"
        case Format.MS:
            return f"{value:+,.{_decimals((value, *beside), small=2, large=1)}f} ms"
        case Format.COUNT:
            return f"{value:+,.{_decimals((value, *beside), small=4, large=3)}f}"


def effect_text(effect: Effect, metric: Metric, currency: str | None) -> str:
    """The absolute effect, with as many decimals as its interval."""
    ends = (effect.interval.low, effect.interval.high)
    return difference_text(effect.absolute, metric, currency, beside=ends)


def interval_text(interval: Interval | None, metric: Metric, *, beside: float = 0.0) -> str:
    """Both ends of an interval of a difference, without the unit."""
    if interval is None:
        return NONE
    ends = (interval.low, interval.high)
    words = (difference_text(end, metric, None, beside=(*ends, beside)) for end in ends)
    return " to ".join(word.removesuffix(" pp").removesuffix(" ms") for word in words)


def relative_text(relative: float | None) -> str:
    """A relative effect."""
    return NONE if relative is None else percent(relative, signed=True)


def relative_interval_text(interval: Interval | None) -> str:
    """Both ends of an interval of a relative effect."""
    if interval is None:
        return NONE
    return f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f} %"


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where there are several."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _decimals(values: Iterable[float], *, small: int = 4, large: int = 2) -> int:
    return small if 0 < max(abs(value) for value in values) < 1 else large
