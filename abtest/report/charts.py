"""Charts of a report: each says in its caption how to read it."""

from collections.abc import Callable, Iterator

from matplotlib.axes import Axes

from abtest.report.axis import colour, dates, short
from abtest.report.drawing import HEIGHT, Chart, draw
from abtest.report.forest import MAX_ROWS, ROW, primary, revenue, segments
from abtest.report.model import Arm, Report
from abtest.report.trend import trend
from abtest.report.wording import percent


def charts(report: Report) -> tuple[Chart, ...]:
    """Every chart the report has the data for."""
    return tuple(_charts(report))


def _charts(report: Report) -> Iterator[Chart]:
    if report.days:
        yield trend(report)
    yield draw(
        "Revenue per unit",
        "Mean of each variant with its 95 % interval.",
        lambda panels: revenue(panels[0], report),
        height=max(HEIGHT, 1.2 + 0.8 * len(report.arms)),
    )
    if report.primary:
        yield draw(
            f"Effect against {report.control}",
            f"{report.metrics[report.primary_metric].title}, with the 95 % interval. An interval "
            "across 0 leaves room for chance.",
            lambda panels: primary(panels[0], report),
            height=max(HEIGHT, 1.2 + 0.8 * len(report.primary)),
        )
    yield draw(
        "Revenue per unit, day by day",
        "All revenue until the end of the day, over the units exposed until then.",
        lambda panels: _days(panels[0], report),
    )
    yield draw(
        "Funnel",
        "Shares of the recommended items that were seen, clicked and bought, each on its own "
        "scale.",
        lambda panels: _funnel(panels, report),
        panels=(1, 3),
    )
    if report.segments:
        yield draw(
            "Segments",
            "Effect on the primary metric in each segment, with its 95 % interval; the largest "
            f"{MAX_ROWS} where there are more.",
            lambda panels: segments(panels[0], report),
            height=max(HEIGHT, 1.0 + ROW * min(MAX_ROWS, len(report.segments))),
        )
    if any(arm.latency for arm in report.arms):
        yield draw(
            "Latency inside the server",
            "Milliseconds within which 50, 95 and 99 % of the answers were made.",
            lambda panels: _latency(panels[0], report),
        )


def _days(axes: Axes, report: Report) -> None:
    for arm in report.arms:
        axes.plot(
            dates([day.day for day in arm.days]),
            [day.revenue_per_unit for day in arm.days],
            color=colour(report, arm.name),
            linewidth=2.2,
            marker="o",
            markersize=3.5,
            label=arm.name,
        )
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_ylabel(f"{report.currency or 'revenue'} per unit")
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, loc="lower right")


def _funnel(panels: list[Axes], report: Report) -> None:
    steps: tuple[tuple[str, Callable[[Arm], int]], ...] = (
        ("seen", lambda arm: arm.seen_items),
        ("clicked", lambda arm: arm.clicked_items),
        ("bought", lambda arm: arm.bought_items),
    )
    for axes, (name, items) in zip(panels, steps, strict=True):
        shares = [items(arm) / arm.items if arm.items else 0.0 for arm in report.arms]
        bars = axes.bar(
            range(len(shares)),
            [100 * share for share in shares],
            0.72,
            color=[colour(report, arm.name) for arm in report.arms],
        )
        axes.bar_label(bars, [percent(share) for share in shares], padding=2, fontsize=9)
        axes.set_title(name, fontsize=11)
        names = [short(arm.name, 14) for arm in report.arms]
        long = sum(map(len, names)) > 20
        axes.set_xticks(
            range(len(names)), names, rotation=30 if long else 0, ha="right" if long else "center"
        )
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        axes.margins(y=0.18)


def _latency(axes: Axes, report: Report) -> None:
    arms = [(arm, arm.latency) for arm in report.arms if arm.latency is not None]
    width = 0.8 / len(arms)
    for number, (arm, latency) in enumerate(arms):
        shown = (latency.p50_ms, latency.p95_ms, latency.p99_ms)
        places = [group - 0.4 + width * (number + 0.5) for group in range(len(shown))]
        bars = axes.bar(places, shown, width * 0.92, color=colour(report, arm.name), label=arm.name)
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=9)
    axes.set_xticks(range(3), ["p50", "p95", "p99"])
    axes.set_ylabel("ms")
    axes.margins(y=0.12)
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, loc="upper left")
