"""Sweep: the settings every method is tried at, as many for one as for the other."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from training.leaderboard.method import BenchmarkError, Method
from training.leaderboard.trial import Result, Trial

LEARNING_RATES = (0.01, 0.02, 0.005, 0.04, 0.0025, 0.014, 0.007, 0.028, 0.0035, 0.08, 0.00125, 0.16)
"""Most plausible first. RecFlow's results are published at 0.01, and LCRON's authors found 0.02
better (arXiv 2503.09492, appendix); further ones by factors of 2 to both sides, then between."""
TAUS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "icc": (1e-3, 1e-1, 1.0),
        "arf": (200.0, 50.0, 10.0),
        "arf_v2": (200.0, 50.0, 10.0),
        "lcron-neuralsort": (50.0, 10.0, 200.0),
        "lcron-softsort": (1.0, 0.1, 10.0),
        "lcron-diffsort": (0.1, 1.0, 0.01),
        "dftopk": (1.0, 500.0, 20.0),
        "lapsum": (5.0, 1.0, 100.0),
        "sparse": (1.0, 20.0, 5.0),
        "logistic": (1.0, 500.0, 20.0),
    }
)
"""Temperatures of each method, most plausible first, the published one among the first two (arXiv
2503.09492 and 2510.11472; logistic, which is unpublished, has DFTopK's). Published first but for
DFTopK: its 500 is far above the scale of the scores, about 1, and fails where training is short.
The others lie on the far side of that scale, or between."""
NEW_TAUS = (1.0, 10.0, 0.1)
"""Of a method that is not in `TAUS`."""
MOST_TRIALS = len(LEARNING_RATES)
SEED = 0
"""Of every trial of the sweep."""


def settings(method: Method, trials: int) -> tuple[tuple[float, float], ...]:
    """Learning rates and temperatures to try; fewer trials try the first of more.

    A method with a temperature walks the grid of both in growing rectangles (2 trials are 2 x 1, 4
    are 2 x 2, 6 are 3 x 2, 9 are 3 x 3); one without spends as many trials on learning rates.

    Args:
        method: whose.
        trials: how many, 1 to `MOST_TRIALS`.

    Raises:
        BenchmarkError: the number of trials is out of range.
    """
    if not 1 <= trials <= MOST_TRIALS:
        raise BenchmarkError(f"trials = {trials} must be in [1, {MOST_TRIALS}]")
    if not method.tempered:
        return tuple((rate, method.loss.tau) for rate in LEARNING_RATES[:trials])
    taus = TAUS.get(method.name, NEW_TAUS)
    grid = [(i, j) for i in range(len(LEARNING_RATES)) for j in range(len(taus))]
    # Along the learning rates first: with as many of both, the next rectangle is the wider one.
    grid.sort(key=lambda at: (max(at[0], at[1]), at[1] >= at[0] and at[1] > 0, at))
    return tuple((LEARNING_RATES[i], taus[j]) for i, j in grid[:trials])


def sweep(method: Method, trials: int) -> tuple[Trial, ...]:
    """The trials of a method's sweep, judged on validation."""
    return tuple(
        Trial(
            method=method.name,
            loss=method.loss.model_copy(update={"tau": tau}),
            learning_rate=rate,
            seed=SEED,
            period="validation",
        )
        for rate, tau in settings(method, trials)
    )


def best(results: Sequence[Result]) -> Result | None:
    """The result with the highest score, the first of equals; None where every trial failed."""
    lasting = [result for result in results if result.failed is None]
    return max(lasting, key=lambda result: result.score, default=None)


def at_edge(found: Trial, trials: Sequence[Trial]) -> tuple[bool, bool]:
    """Whether its learning rate, and its temperature, is the lowest or highest of several tried."""
    rates = {trial.learning_rate for trial in trials}
    taus = {trial.loss.tau for trial in trials}
    return (
        len(rates) > 1 and found.learning_rate in (min(rates), max(rates)),
        len(taus) > 1 and found.loss.tau in (min(taus), max(taus)),
    )
