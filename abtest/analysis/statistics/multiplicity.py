"""Multiplicity: p-values of effects that were tested together."""

from collections.abc import Sequence
from typing import Literal

import tea_tasting as tt
from tea_tasting.experiment import ExperimentResult

from abtest.analysis.statistics.effect import AnalysisError, Effect


def adjust(effects: Sequence[Effect], method: Literal["holm", "bh"]) -> tuple[Effect, ...]:
    """The effects with `p_adjusted` for their number, in the same order.

    `holm` keeps the chance of any false find below the level, however the tests depend on each
    other (Holm 1979, *A Simple Sequentially Rejective Multiple Test Procedure*): for what decides.
    `bh` keeps the expected share of false ones among the finds below it (Benjamini & Hochberg 1995,
    *Controlling the False Discovery Rate*): for what is looked through, such as segments.

    Raises:
        AnalysisError: the method is neither.
    """
    if method not in ("holm", "bh"):
        raise AnalysisError(f"method == {method!r} must be 'holm' or 'bh'")
    if not effects:
        return ()
    tests = ExperimentResult(
        {str(at): {"pvalue": effect.p_value} for at, effect in enumerate(effects)}
    )
    if method == "holm":
        found = tt.adjust_fwer(tests, arbitrary_dependence=True, method="bonferroni")
    else:
        found = tt.adjust_fdr(tests, arbitrary_dependence=False)
    (adjusted,) = found.values()
    return tuple(
        effect.model_copy(update={"p_adjusted": float(adjusted[str(at)]["pvalue_adj"])})
        for at, effect in enumerate(effects)
    )
