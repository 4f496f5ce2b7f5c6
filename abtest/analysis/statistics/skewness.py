"""Skewness: how far from normal the mean of so many units may still be."""

from collections.abc import Mapping

import numpy as np

from abtest.analysis.sample import Float64, Sample

UNITS_PER_SQUARED_SKEWNESS = 355
"""An arm needs so many times its squared skewness, or its mean is not close to normal.

Source: Kohavi, Deng, Longbotham & Xu (2014), *Seven Rules of Thumb for Web Site Experimenters*,
KDD, rule 7.
"""


def skewness(values: Float64) -> float:
    """Third standardised moment; 0 where the values do not vary."""
    centred = values - values.mean()
    spread = float(np.mean(centred**2)) ** 0.5
    if not spread > 1e-12 * float(np.abs(values).max(initial=0.0)):
        return 0.0
    scaled = centred / spread
    return float(np.mean(scaled * scaled * scaled))  # `** 3` is far slower


def linearised(sample: Sample) -> Float64:
    """What the variance of a mean or a ratio is made of: [U] N, or (N - R D) / mean(D).

    Source: Deng, Knoblich & Lu (2018), *Applying the Delta Method in Metric Analytics*, KDD,
    equation 4.
    """
    if sample.denominator is None:
        return sample.numerator
    ratio = sample.numerator.sum() / sample.denominator.sum()
    return np.asarray(
        (sample.numerator - ratio * sample.denominator) / sample.denominator.mean(), np.float64
    )


def skewness_warning(arms: Mapping[str, Sample]) -> tuple[str, ...]:
    """A sentence on the arm that lacks most units for its skewness, if one does."""
    skews = {name: skewness(linearised(arm)) for name, arm in arms.items()}
    needed = {name: round(UNITS_PER_SQUARED_SKEWNESS * skew**2) for name, skew in skews.items()}
    lacking = {name: needed[name] / len(arm.numerator) for name, arm in arms.items()}
    worst = max(lacking, key=lambda name: lacking[name])
    if lacking[worst] <= 1:
        return ()
    return (
        f"{worst} has {len(arms[worst].numerator):,} units, a skewness of {skews[worst]:.1f} asks "
        f"for {needed[worst]:,}: p-values and intervals are rough; cap the metric, or wait",
    )
