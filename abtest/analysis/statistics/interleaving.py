"""Interleaving: which of two lists, mixed into one by team draft, users take more from."""

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student

from abtest.analysis.sample import Float64
from abtest.analysis.statistics.effect import ALPHA, AnalysisError, Interval, Preference


def preference(credit_a: Float64, credit_b: Float64) -> Preference:
    """Compare what units took from each team; a unit is one vote, however much it took.

    Team draft gives both teams the same chance of every position, so without a preference a unit is
    as likely to take more from A as from B: an exact two-sided sign test on units. The difference
    tells the size, in the credit's unit, with Student's interval over units.

    Args:
        credit_a: [U] what each unit took from A's positions: clicks, purchases or revenue.
        credit_b: [U] from B's, for the same units.

    Raises:
        AnalysisError: lengths differ, or a credit is not finite.

    Source: Radlinski, Kurup & Joachims (2008), *How Does Clickthrough Data Reflect Retrieval
    Quality?*, CIKM; Chapelle, Joachims, Radlinski & Yue (2012), *Large-Scale Validation and
    Analysis of Interleaved Search Evaluation*, TOIS 30(1), section 3.
    """
    if len(credit_a) != len(credit_b):
        raise AnalysisError(
            f"credit_a has {len(credit_a)} units and credit_b {len(credit_b)}; give both of every "
            "unit"
        )
    if not (np.isfinite(credit_a).all() and np.isfinite(credit_b).all()):
        raise AnalysisError("credit_a and credit_b must be finite; count nothing taken as 0")
    more = credit_a - credit_b
    wins_a, wins_b = int(np.count_nonzero(more > 0)), int(np.count_nonzero(more < 0))
    decided, count = wins_a + wins_b, len(more)
    sign = binomtest(wins_a, decided) if decided else None
    share = None if sign is None else sign.proportion_ci(1 - ALPHA, method="wilson")
    interval = None
    if count > 1:
        error = float(more.std(ddof=1)) / count**0.5
        half = float(student.ppf(1 - ALPHA / 2, count - 1)) * error
        interval = Interval(low=float(more.mean()) - half, high=float(more.mean()) + half)
    return Preference(
        units=count,
        wins_a=wins_a,
        wins_b=wins_b,
        ties=count - decided,
        share_a=None if sign is None else wins_a / decided,
        share_interval=None if share is None else Interval(low=share.low, high=share.high),
        p_value=None if sign is None else float(sign.pvalue),
        difference=float(more.mean()) if count else None,
        difference_interval=interval,
    )
