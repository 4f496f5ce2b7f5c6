"""Table: the rows of a report, worded once for the terminal and the page."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from abtest.analysis.statistics import SAMPLE_RATIO_P, Interval, Lift
from abtest.report.report import Arm, Report
from abtest.report.verdict import interval_text, lift_text, money, p_text, percent


class Row(NamedTuple):
    """A label and one cell an arm or column."""

    label: str
    cells: tuple[str, ...]


class Section(NamedTuple):
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]


def arm_sections(report: Report) -> tuple[Section, ...]:
    """Every measure of every arm."""

    def row(label: str, cell: Callable[[Arm], str]) -> Row:
        return Row(label, tuple(cell(arm) for arm in report.arms))

    def amount(value: float) -> str:
        return money(value, report.currency)

    return (
        Section(
            "Traffic",
            (
                row("Requests", lambda arm: f"{arm.requests:,}"),
                row("Households (units)", lambda arm: f"{arm.units:,}"),
                row("Items recommended", lambda arm: f"{arm.items:,}"),
            ),
        ),
        Section(
            "Revenue",
            (
                row("Revenue", lambda arm: amount(arm.revenue_micros / 10**6)),
                row("Revenue per household", lambda arm: amount(arm.revenue_per_unit)),
                row("  95 % interval", lambda arm: interval_text(arm.revenue_per_unit_interval)),
                row("Revenue per 1000 recommendations", lambda a: amount(a.revenue_per_1000_items)),
            ),
        ),
        Section(
            "Response",
            (
                row("Click rate", lambda arm: percent(arm.click_rate)),
                row("Conversion rate", lambda arm: percent(arm.conversion_rate)),
                row("Items bought per request", lambda arm: f"{arm.bought_per_request:.3f}"),
            ),
        ),
        Section(
            "Service",
            (
                row("Latency p50", lambda arm: _ms(arm.latency and arm.latency.p50_ms)),
                row("Latency p95", lambda arm: _ms(arm.latency and arm.latency.p95_ms)),
                row("Latency p99", lambda arm: _ms(arm.latency and arm.latency.p99_ms)),
                row("Degraded answers", lambda arm: percent(arm.degraded_share)),
            ),
        ),
    )


def arm_title(arm: Arm, report: Report) -> str:
    """Heading of an arm's column."""
    return f"{arm.name} (control)" if arm.name == report.control else arm.name


LIFT_COLUMNS = ("Lift per household", "95 % interval", "Relative", "95 % interval", "p (Welch)")


def lift_rows(lifts: Sequence[Lift], currency: str | None) -> tuple[Row, ...]:
    """A row for each tested variant, with the cells of `LIFT_COLUMNS`."""
    return tuple(
        Row(
            lift.variant,
            (
                lift_text(lift, currency),
                interval_text(lift.absolute_interval, signed=True),
                "n/a" if lift.relative is None else percent(lift.relative, signed=True),
                _relative(lift.relative_interval),
                p_text(lift.p_value),
            ),
        )
        for lift in lifts
    )


def ratio_sentence(report: Report) -> str:
    """The sample ratio check in one line."""
    ratio = report.sample_ratio
    seen = ", ".join(
        f"{arm.name} {arm.units:,} of {ratio.expected[arm.name]:,.0f} expected"
        for arm in report.arms
    )
    outcome = "passed" if ratio.ok else "FAILED"
    return (
        f"Sample ratio check {outcome}: {seen}; p = {p_text(ratio.p_value)}, "
        f"fails below {SAMPLE_RATIO_P:g}."
    )


def period(report: Report) -> str:
    """First and last day of the events, UTC."""
    days = sorted({day.day for arm in report.arms for day in arm.days})
    return f"{days[0]} to {days[-1]}" if len(days) > 1 else f"{days[0]}"


def _relative(interval: Interval | None) -> str:
    if interval is None:
        return "n/a"
    return f"{percent(interval.low, signed=True)} to {percent(interval.high, signed=True)}"


def _ms(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f} ms"
