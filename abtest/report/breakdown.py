"""Breakdown: every measure of every variant, worded once for the text and the page."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from abtest.report.model import Arm, Latency, Report
from abtest.report.table import Row
from abtest.report.wording import NONE, money, percent


class Section(NamedTuple):
    """Rows that belong together."""

    title: str
    rows: tuple[Row, ...]


def arm_title(arm: Arm, report: Report) -> str:
    """Heading of an arm's column."""
    return f"{arm.name} (control)" if arm.name == report.control else arm.name


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
                row("Units", lambda arm: f"{arm.units:,}"),
                row("Requests", lambda arm: f"{arm.requests:,}"),
            ),
        ),
        Section(
            "Revenue",
            (
                row("Revenue", lambda arm: amount(arm.revenue_micros / 10**6)),
                row("Revenue per unit", lambda arm: amount(arm.revenue_per_unit)),
                row("  95 % interval", lambda arm: _mean_interval(arm)),
                row("Revenue per 1000 recommendations", lambda a: amount(a.revenue_per_1000_items)),
            ),
        ),
        Section(
            "Funnel",
            (
                row("Items recommended", lambda arm: f"{arm.items:,}"),
                row("Items seen", lambda arm: f"{arm.seen_items:,}"),
                row("Items clicked", lambda arm: f"{arm.clicked_items:,}"),
                row("Items bought", lambda arm: f"{arm.bought_items:,}"),
                row("Click rate", lambda arm: percent(arm.click_rate)),
                row("Conversion rate", lambda arm: percent(arm.conversion_rate)),
                row("Items bought per request", lambda arm: f"{arm.bought_per_request:.3f}"),
            ),
        ),
        Section(
            "Service",
            (
                row("Latency p50", lambda arm: _ms(arm.latency, "p50_ms")),
                row("Latency p95", lambda arm: _ms(arm.latency, "p95_ms")),
                row("Latency p99", lambda arm: _ms(arm.latency, "p99_ms")),
                row("Degraded answers", lambda arm: percent(arm.degraded_share)),
            ),
        ),
    )


def _mean_interval(arm: Arm) -> str:
    interval = arm.revenue_per_unit_interval
    if interval is None:
        return NONE
    ends = (interval.low, interval.high)
    return " to ".join(money(end, None, beside=ends) for end in ends)


def _ms(latency: Latency | None, percentile: Literal["p50_ms", "p95_ms", "p99_ms"]) -> str:
    return NONE if latency is None else f"{getattr(latency, percentile):.1f} ms"
