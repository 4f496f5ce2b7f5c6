"""Sample ratio: whether as many units came to each variant as its weight says."""

from collections.abc import Mapping

from scipy.stats import chisquare

from abtest.analysis.statistics.effect import AnalysisError, SampleRatio

SAMPLE_RATIO_P = 5e-4
"""Below it, the split itself is broken and no effect may be read."""


def sample_ratio(units: Mapping[str, int], weights: Mapping[str, float]) -> SampleRatio:
    """Pearson's chi-squared test of the units of all variants against their weights.

    One test over all variants, without a correction for continuity: the counts are large where it
    matters. Too few units for the test to see anything count as right.

    Args:
        units: units that came, by variant.
        weights: share of each variant, by the same names; any positive scale.

    Raises:
        AnalysisError: the names differ, a weight is not positive, or a number of units is negative.

    Source: Fabijan et al. (2019), *Diagnosing Sample Ratio Mismatch in Online Controlled
    Experiments*, KDD.
    """
    if set(units) != set(weights) or not units:
        raise AnalysisError(
            f"units are of {sorted(units)} and weights of {sorted(weights)}; give both for the "
            "same variants"
        )
    for name in units:
        if not weights[name] > 0:
            raise AnalysisError(f"weight of {name} == {weights[name]} must be above 0; drop it")
        if units[name] < 0:
            raise AnalysisError(f"units of {name} == {units[name]} must be at least 0; count anew")
    total, whole = sum(units.values()), sum(weights.values())
    expected = {name: total * weights[name] / whole for name in units}
    if not total or len(units) < 2:
        return SampleRatio(p_value=1.0, ok=True, expected=expected)
    found = chisquare([units[name] for name in units], [expected[name] for name in units])
    p_value = float(found.pvalue)
    return SampleRatio(p_value=p_value, ok=p_value >= SAMPLE_RATIO_P, expected=expected)
