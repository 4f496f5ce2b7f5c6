"""Capping: totals of units above a quantile count as that quantile, to tame heavy tails."""

import numpy as np

from abtest.analysis.sample import Float64, Sample
from abtest.analysis.statistics.effect import AnalysisError


def cap(treatment: Sample, control: Sample, quantile: float) -> tuple[Sample, Sample, float | None]:
    """Winsorise the totals of units at a quantile of both arms' units together.

    One cap for both arms keeps the comparison fair: a cap for each would hide a variant that moves
    the tail. The covariate is capped at its own quantile, as what it predicts is capped. A quantile
    that is not above zero (fewer units than that bought anything) caps nothing.

    Args:
        treatment: of a mean.
        control: of the same mean.
        quantile: in (0.5, 1).

    Returns:
        The capped arms, and the cap; None where nothing was capped.

    Raises:
        AnalysisError: the samples are of a ratio.

    Source: winsorised means, Wilcox (2012), *Introduction to Robust Estimation and Hypothesis
    Testing*, section 3.3; here one-sided, and pooled over the arms.
    """
    if treatment.denominator is not None or control.denominator is not None:
        raise AnalysisError(
            f"cap_quantile == {quantile} is of a ratio; only totals of means are capped, "
            "leave cap_quantile out of ratio metrics"
        )
    limit = float(np.quantile(np.concatenate((treatment.numerator, control.numerator)), quantile))
    if limit <= 0:
        return treatment, control, None
    if treatment.covariate is None or control.covariate is None:
        before = None
    else:
        pooled = np.concatenate((treatment.covariate, control.covariate))
        before = float(np.quantile(pooled, quantile))
    return _capped(treatment, limit, before), _capped(control, limit, before), limit


def _capped(sample: Sample, limit: float, before: float | None) -> Sample:
    covariate: Float64 | None = sample.covariate
    if covariate is not None and before is not None and before > 0:
        covariate = np.minimum(covariate, before)
    return sample._replace(numerator=np.minimum(sample.numerator, limit), covariate=covariate)
