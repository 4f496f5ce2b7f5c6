"""Outcome: what the platform decided beside what is true, over many experiments."""

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from rich.table import Table
from scipy.stats import binomtest

from abtest.report.decision import BLOCKED, HOLD, SHIP, STOP, WAIT
from cli.simulation.experiment import Decided

CALLS = (SHIP, HOLD, STOP, WAIT, BLOCKED)


class Rate(NamedTuple):
    """A share of cases, with its 95 % interval (Wilson 1927)."""

    cases: int
    of: int
    low: float
    high: float

    def __str__(self) -> str:
        """As percentages; a dash where there are no cases."""
        if not self.of:
            return "-"
        share, low, high = (100 * each for each in (self.cases / self.of, self.low, self.high))
        return f"{share:.0f} % ({low:.0f} to {high:.0f})"


class Outcome(NamedTuple):
    """All experiments of one true lift."""

    lift: float
    calls: dict[str, int]
    """How often each was the decision; `wait` where the days were over first."""
    right: Rate
    """The better arm stays: shipped where it is the treatment, else not shipped."""
    covered: Rate
    """The report's fixed-horizon interval of the relative lift, on the day of the decision, holds
    the truth. That day is chosen by what was found, so this may be less than 95 %."""
    median_day: float
    """Of the decision; the last day where there was none."""
    power: float
    """Of a fixed-horizon test on the last day, computed from the world's truth."""
    oracle_days: int | None
    """Days after which that test would have 80 % power; None where the lift is 0 or it is more than
    ten times the days there were."""


def rate(count: int, of: int) -> Rate:
    """A share and its interval; that of no cases is everything."""
    if not of:
        return Rate(count, of, 0.0, 1.0)
    interval = binomtest(count, of).proportion_ci(method="wilson")
    return Rate(count, of, float(interval.low), float(interval.high))


def is_right(decided: Decided) -> bool:
    """Whether the better arm stays."""
    return (decided.call == SHIP) == (decided.lift > 0)


def outcome(
    decided: Sequence[Decided], lift: float, power: float, oracle_days: int | None
) -> Outcome:
    """Put the experiments of one lift together; there must be one at least."""
    mine = [one for one in decided if one.lift == lift]
    told = [one for one in mine if one.covered is not None]
    return Outcome(
        lift=lift,
        calls={call: sum(one.call == call for one in mine) for call in CALLS},
        right=rate(sum(map(is_right, mine)), len(mine)),
        covered=rate(sum(one.covered is True for one in told), len(told)),
        median_day=float(median(one.day for one in mine)),
        power=power,
        oracle_days=oracle_days,
    )


def false_ships(decided: Sequence[Decided]) -> Rate:
    """How often a treatment that is no better is shipped."""
    no_better = [one for one in decided if one.lift <= 0]
    return rate(sum(one.call == SHIP for one in no_better), len(no_better))


def table(outcomes: Sequence[Outcome]) -> Table:
    """A line a lift."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("true lift", *CALLS, "right", "median day", "oracle day", "power"):
        shown.add_column(title, justify="right")
    for one in outcomes:
        shown.add_row(
            f"{100 * one.lift:+.1f} %",
            *(str(one.calls[call]) for call in CALLS),
            str(one.right),
            f"{one.median_day:g}",
            "-" if one.oracle_days is None else str(one.oracle_days),
            "-" if one.lift == 0 else f"{100 * one.power:.0f} %",
        )
    return shown


def as_json(decided: Sequence[Decided], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything, as `--json` prints it."""
    return {
        "outcomes": [
            one._asdict() | {"right": one.right._asdict(), "covered": one.covered._asdict()}
            for one in outcomes
        ],
        "false_ships": false_ships(decided)._asdict(),
        "right": rate(sum(map(is_right, decided)), len(decided))._asdict(),
        "experiments": [one._asdict() for one in decided],
    }
