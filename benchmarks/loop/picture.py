"""Picture of the loop: expected money by round."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.loop.rounds import Round
from benchmarks.loop.table import TITLES, by_round, shares

COLOURS = {
    "retrained": "#0b6e4f",
    "not_retrained": "#c1440e",
    "bestsellers": "#7a7a7a",
    "best_common": "#b0b0b0",
}


def draw(found: Sequence[Round], path: Path) -> None:
    """Shares of the oracle's money by round: each seed thin, their mean thick."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    rounds = by_round(found)
    figure, axis = plt.subplots(figsize=(7.5, 4.8))
    for name, title in TITLES.items():
        mean = [statistics.mean(shares(one)[name] for one in line) for line in rounds.values()]
        style = "-" if name.endswith("retrained") else "--"
        axis.plot(list(rounds), mean, style, color=COLOURS[name], label=title, linewidth=2.2)
        for seed in sorted({one.seed for one in found}) if style == "-" else ():
            mine = [shares(one)[name] for line in rounds.values() for one in line
                    if one.seed == seed]  # fmt: skip
            axis.plot(list(rounds), mine, color=COLOURS[name], alpha=0.35, linewidth=0.9)
    axis.set_xticks(list(rounds))
    axis.set_xlabel("round: times trained on the log")
    axis.set_ylabel("expected money, share of the best lists")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    figure.legend(loc="lower center", ncols=2, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
