"""Picture: every rate beside the band it must be in."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.statistics.rate import Rate


def draw(rates: Sequence[Rate], path: Path) -> None:
    """A line a rate: the band, the measured share and its 95 % interval."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(11, 0.36 * len(rates) + 1.4))
    for at, rate in enumerate(rates):
        axis.barh(at, rate.high - rate.low, left=rate.low, height=0.7, color="#cfe3d4")
        low, high = rate.interval
        colour = "#1b6e3a" if rate.holds else "#b3261e"
        axis.plot([low, high], [at, at], color=colour, linewidth=2)
        axis.plot(rate.share, at, "o", color=colour, markersize=5)
    axis.set_yticks(range(len(rates)), [f"{rate.study}: {rate.what}" for rate in rates], fontsize=8)
    axis.set_ylim(len(rates) - 0.4, -0.6)
    axis.set_xlim(-0.01, 1.01)
    axis.set_xticks([0, 0.05, 0.25, 0.5, 0.8, 0.95], ["0", "5 %", "25 %", "50 %", "80 %", "95 %"])
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.set_title("Measured rates, 95 % intervals, and the bands they must be in", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
