"""Aggregates: counts, means, variances and covariances of a sample, as the engine takes them."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import tea_tasting as tt
from tea_tasting.aggr import Aggregates

from abtest.analysis.sample import Sample
from abtest.analysis.statistics.effect import CONFIDENCE


def aggregates(sample: Sample, shift: float = 0.0) -> Aggregates:
    """Of the columns that the sample has, named as in `Sample`; needs two units.

    Args:
        sample: of a mean or a ratio.
        shift: moves the mean or the ratio by so much, and nothing else: a ratio's numerator grows
            by that multiple of its denominator, which leaves the delta method's variance as it is.
    """
    columns = {name: column for name, column in sample._asdict().items() if column is not None}
    if shift:
        weight = 1.0 if sample.denominator is None else sample.denominator
        columns["numerator"] = sample.numerator + shift * weight
    names = list(columns)
    moments = np.atleast_2d(np.cov(np.stack([columns[name] for name in names])))
    return Aggregates(
        count_=len(sample.numerator),
        mean_={name: float(columns[name].mean()) for name in names},
        var_={name: float(moments[at, at]) for at, name in enumerate(names)},
        cov_={
            (left, right): float(moments[i, j])
            for i, left in enumerate(names)
            for j, right in enumerate(names)
            if i < j
        },
    )


def engine(
    sample: Sample,
    *,
    adjusted: bool,
    use_t: bool = True,
    planned: Mapping[str, float] = MappingProxyType({}),
) -> tt.RatioOfMeans:
    """The engine's two-sided Welch test of a mean, or of a ratio by the delta method.

    Args:
        sample: tells which columns there are.
        adjusted: with CUPED.
        use_t: False for the normal distribution, whose intervals tell the standard error.
        planned: what the engine takes to plan: alpha, power, n_obs, rel_effect_size.
    """
    return tt.RatioOfMeans(
        "numerator",
        None if sample.denominator is None else "denominator",
        "covariate" if adjusted else None,
        "covariate_denominator" if adjusted and sample.denominator is not None else None,
        alternative="two-sided",
        confidence_level=CONFIDENCE,
        equal_var=False,
        use_t=use_t,
        **planned,
    )


def explained(found: Aggregates, *, ratio: bool) -> float:
    """Share of the variance that the covariate explains, the squared correlation: CUPED's saving.

    Args:
        found: of a sample with a covariate that varies.
        ratio: with denominators.
    """
    own = ("numerator", "denominator" if ratio else None)
    before = ("covariate", "covariate_denominator" if ratio else None)
    spread = found.ratio_var(*own) * found.ratio_var(*before)
    return float(found.ratio_cov(*own, *before) ** 2 / spread) if spread > 0 else 0.0


def adjustable(*arms: Sample) -> bool:
    """Whether every arm has a covariate that varies, so that CUPED can use it.

    Of a ratio, it needs its denominator too, and units that were there before.
    """
    for arm in arms:
        if arm.covariate is None or len(arm.covariate) < 2 or not np.ptp(arm.covariate) > 0:
            return False
        before = arm.covariate_denominator
        if arm.denominator is not None and (before is None or not before.sum() > 0):
            return False
    return True
