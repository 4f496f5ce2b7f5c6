from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportions_ztest
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from abtest.analysis.metric import Metric
from abtest.analysis.sample import Float64, Sample, Values
from abtest.analysis.statistics.comparison import compare, compare_values
from abtest.analysis.statistics.difference import wald
from abtest.analysis.statistics.effect import AnalysisError, Effect, Interval
from tests.abtest.analysis.declared import (
    CAPPED,
    CUPED,
    MEAN,
    P90,
    RATIO,
    RATIO_CUPED,
    clicks,
    revenue,
)
from tests.abtest.analysis.hillstrom import hillstrom


def found(metric: Metric, new: Sample, old: Sample, planned: int | None = None) -> Effect:
    effect = compare(metric, "new", new, old, planned_units=planned)
    assert effect is not None
    return effect


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


def gbstats_of(*columns: Float64 | None) -> list[Any]:
    """A column's moments as the second oracle takes them; it cannot be a dependency of ours."""
    models = pytest.importorskip("gbstats.models.statistics", reason="gbstats pins numpy below 2")
    return [
        models.SampleMeanStatistic(n=len(c), sum=c.sum(), sum_squares=(c**2).sum())
        for c in columns
        if c is not None
    ]


def product(one: Float64, other: Float64 | None) -> float:
    assert other is not None
    return float((one * other).sum())


def gbstats_test(control: object, treatment: object) -> Any:  # noqa: ANN401
    tests = pytest.importorskip("gbstats.frequentist.tests", reason="gbstats pins numpy below 2")
    config = tests.FrequentistConfig(difference_type="absolute")
    return tests.TwoSidedTTest(control, treatment, config).compute_result()


def test_a_mean_agrees_with_scipy_and_statsmodels() -> None:
    old, new = revenue(1, 700), revenue(2, 900, 1.2)
    effect = found(MEAN, new, old)
    a, b = new.numerator, old.numerator
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert effect.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    assert effect.absolute == pytest.approx(a.mean() - b.mean(), rel=1e-12)
    assert ends(effect.interval) == pytest.approx(tuple(welch.confidence_interval()), rel=1e-9)
    theirs = CompareMeans(DescrStatsW(a), DescrStatsW(b)).tconfint_diff(usevar="unequal")
    assert ends(effect.interval) == pytest.approx(theirs, rel=1e-9)
    assert (effect.control_value, effect.variant_value) == (b.mean(), a.mean())
    assert effect.relative == pytest.approx(a.mean() / b.mean() - 1, rel=1e-12)
    assert effect.units == 1600
    assert effect.method == "Welch's t-test"


def test_a_mean_agrees_with_gbstats() -> None:
    old, new = revenue(1, 700), revenue(2, 900, 1.2)
    theirs = gbstats_test(*gbstats_of(old.numerator), *gbstats_of(new.numerator))
    effect = found(MEAN, new, old)
    assert effect.p_value == pytest.approx(theirs.p_value, rel=1e-9)
    assert ends(effect.interval) == pytest.approx(tuple(theirs.ci), rel=1e-9)


def test_the_confidence_sequence_agrees_with_gbstats() -> None:
    tests = pytest.importorskip("gbstats.frequentist.tests", reason="gbstats pins numpy below 2")
    old, new = revenue(1, 700), revenue(2, 900, 1.2)
    config = tests.SequentialConfig(difference_type="absolute", sequential_tuning_parameter=5000)
    theirs = tests.SequentialTwoSidedTTest(
        *gbstats_of(old.numerator), *gbstats_of(new.numerator), config
    ).compute_result()
    effect = found(MEAN, new, old, planned=5000)
    assert ends(effect.always_valid) == pytest.approx(tuple(theirs.ci), rel=1e-9)


def test_hillstrom_spend_is_what_two_libraries_say() -> None:
    arms = hillstrom()
    new, old = arms["Mens E-Mail"].spend, arms["No E-Mail"].spend
    effect = found(MEAN, Sample(new), Sample(old))
    assert effect.absolute == pytest.approx(0.7698271559, abs=1e-9)
    assert ends(effect.interval) == pytest.approx((0.4851397326, 1.0545145792), abs=1e-9)
    assert effect.p_value == pytest.approx(1.16381497e-07, rel=1e-8)
    theirs = CompareMeans(DescrStatsW(new), DescrStatsW(old))
    assert ends(effect.interval) == pytest.approx(theirs.tconfint_diff(usevar="unequal"), rel=1e-9)
    gb = gbstats_test(*gbstats_of(old), *gbstats_of(new))
    assert effect.p_value == pytest.approx(gb.p_value, rel=1e-9)
    assert ends(effect.interval) == pytest.approx(tuple(gb.ci), rel=1e-9)


def test_hillstrom_with_cuped_and_as_a_ratio() -> None:
    arms = hillstrom()
    new, old = arms["Mens E-Mail"], arms["No E-Mail"]
    cuped = found(
        CUPED, Sample(new.spend, covariate=new.history), Sample(old.spend, covariate=old.history)
    )
    assert cuped.absolute == pytest.approx(0.7674384994, abs=1e-9)
    ratio = found(RATIO, Sample(new.spend, new.visit), Sample(old.spend, old.visit))
    assert ratio.p_value == pytest.approx(0.0975627731, abs=1e-9)


def test_cuped_is_the_regression_on_the_covariate() -> None:
    old, new = revenue(3, 3000), revenue(4, 3000, 1.1)
    effect, plain = found(CUPED, new, old), found(MEAN, new, old)
    assert new.covariate is not None
    assert old.covariate is not None
    before = np.concatenate((new.covariate, old.covariate))
    after = np.concatenate((new.numerator, old.numerator))
    theta = np.cov(after, before)[0, 1] / before.var(ddof=1)
    a, b = new.numerator - theta * new.covariate, old.numerator - theta * old.covariate
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert effect.absolute == pytest.approx(a.mean() - b.mean(), rel=1e-9)
    assert effect.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    assert ends(effect.interval) == pytest.approx(tuple(welch.confidence_interval()), rel=1e-9)
    assert effect.variance_reduction == pytest.approx(
        1
        - (a.var(ddof=1) + b.var(ddof=1)) / (new.numerator.var(ddof=1) + old.numerator.var(ddof=1))
    )
    assert (effect.variance_reduction or 0) > 0.03
    assert plain.variance_reduction is None
    assert effect.method == "Welch's t-test, CUPED"
    assert (effect.control_value, effect.variant_value) == (
        old.numerator.mean(),
        new.numerator.mean(),
    )


def test_cuped_agrees_with_gbstats() -> None:
    models = pytest.importorskip("gbstats.models.statistics", reason="gbstats pins numpy below 2")
    old, new = revenue(3, 3000), revenue(4, 3000, 1.1)
    arms = [
        models.RegressionAdjustedStatistic(
            3000,
            *gbstats_of(arm.numerator, arm.covariate),
            product(arm.numerator, arm.covariate),
            0,
        )
        for arm in (old, new)
    ]
    theirs = gbstats_test(*arms)
    # Its coefficient adds up the arms' own covariances; ours is of the pooled arms.
    assert found(CUPED, new, old).absolute == pytest.approx(sum(theirs.ci) / 2, abs=2e-3)


def test_a_ratio_is_the_delta_method_by_unit() -> None:
    new, old = clicks(5, 2000), clicks(6, 1500)
    effect = found(RATIO, new, old)
    values, squares = [], []
    for arm in (new, old):
        assert arm.denominator is not None
        ratio = arm.numerator.sum() / arm.denominator.sum()
        linear = (arm.numerator - ratio * arm.denominator) / arm.denominator.mean()
        values.append(ratio)
        squares.append(linear.var(ddof=1) / len(linear))
    assert effect.absolute == pytest.approx(values[0] - values[1], rel=1e-9)
    z = (values[0] - values[1]) / sum(squares) ** 0.5
    free = sum(squares) ** 2 / (squares[0] ** 2 / 1999 + squares[1] ** 2 / 1499)
    assert effect.p_value == pytest.approx(2 * stats.t.sf(abs(z), free), rel=1e-9)
    half = stats.t.ppf(0.975, free) * sum(squares) ** 0.5
    assert ends(effect.interval) == pytest.approx(
        (effect.absolute - half, effect.absolute + half), rel=1e-9
    )


def test_a_ratio_agrees_with_gbstats() -> None:
    models = pytest.importorskip("gbstats.models.statistics", reason="gbstats pins numpy below 2")
    new, old = clicks(5, 2000), clicks(6, 1500)
    arms = [
        models.RatioStatistic(
            len(arm.numerator),
            *gbstats_of(arm.numerator, arm.denominator),
            m_d_sum_of_products=product(arm.numerator, arm.denominator),
        )
        for arm in (old, new)
    ]
    theirs, effect = gbstats_test(*arms), found(RATIO, new, old)
    assert effect.p_value == pytest.approx(theirs.p_value, rel=1e-9)
    assert ends(effect.interval) == pytest.approx(tuple(theirs.ci), rel=1e-9)


def test_cuped_of_a_ratio_needs_both_covariates() -> None:
    new, old = clicks(5, 2000), clicks(6, 2000)
    assert (found(RATIO_CUPED, new, old).variance_reduction or 0) > 0.2
    half = [arm._replace(covariate_denominator=None) for arm in (new, old)]
    assert found(RATIO_CUPED, half[0], half[1]).variance_reduction is None
    absent = [arm._replace(covariate_denominator=np.zeros(2000)) for arm in (new, old)]
    assert found(RATIO_CUPED, absent[0], absent[1]).variance_reduction is None


def test_a_metric_without_covariate_ignores_it() -> None:
    new, old = revenue(3, 3000), revenue(4, 3000)
    alone = [Sample(arm.numerator) for arm in (new, old)]
    assert found(MEAN, new, old) == found(MEAN, alone[0], alone[1])
    assert found(CUPED, alone[0], alone[1]).variance_reduction is None


def test_a_covariate_that_does_not_vary_is_not_used() -> None:
    new, old = (arm._replace(covariate=np.ones(500)) for arm in (revenue(3, 500), revenue(4, 500)))
    assert found(CUPED, new, old).variance_reduction is None


def test_a_covariate_that_tells_everything_is_not_used() -> None:
    new, old = (arm._replace(covariate=arm.numerator) for arm in (revenue(3, 500), revenue(4, 500)))
    assert found(CUPED, new, old).variance_reduction is None


def test_a_proportion_is_a_mean_without_yates() -> None:
    new, old = np.arange(1000) < 130, np.arange(1000) < 100
    effect = found(MEAN, Sample(new.astype(float)), Sample(old.astype(float)))
    _, pearson = proportions_ztest([130, 100], [1000, 1000])
    yates = stats.chi2_contingency([[130, 870], [100, 900]], correction=True).pvalue
    assert effect.p_value == pytest.approx(pearson, rel=2e-2)
    assert abs(effect.p_value - pearson) < abs(effect.p_value - yates) / 10


def test_capping_is_at_the_quantile_of_both_arms_together() -> None:
    new, old = revenue(7, 400, 3.0), revenue(8, 600)
    limit = np.quantile(np.concatenate((new.numerator, old.numerator)), 0.9)
    effect = found(CAPPED, new, old)
    capped = [Sample(np.minimum(arm.numerator, limit)) for arm in (new, old)]
    assert effect.absolute == found(MEAN, capped[0], capped[1]).absolute
    assert effect.variant_value == capped[0].numerator.mean()
    assert effect.method == f"Welch's t-test, capped at {limit:g}"


def test_a_cap_of_zero_caps_nothing_and_says_so() -> None:
    new, old = (Sample(np.arange(1000.0) * (np.arange(1000) > share)) for share in (950, 960))
    effect = found(CAPPED, new, old)
    assert effect.absolute == found(MEAN, new, old).absolute
    assert "nothing is capped: the 0.9 quantile is not above 0" in effect.warnings


def test_the_scale_multiplies_everything_but_shares() -> None:
    new, old = revenue(1, 700), revenue(2, 900, 1.2)
    one = found(MEAN, new, old)
    thousand = found(MEAN.model_copy(update={"scale": 1000.0}), new, old)
    assert thousand.absolute == pytest.approx(1000 * one.absolute)
    assert thousand.control_value == pytest.approx(1000 * one.control_value)
    assert ends(thousand.always_valid) == pytest.approx([1000 * e for e in ends(one.always_valid)])
    assert thousand.detectable == pytest.approx(1000 * (one.detectable or 0))
    assert thousand.relative == pytest.approx(one.relative)
    assert thousand.p_value == pytest.approx(one.p_value)


def test_a_value_near_zero_has_no_share_but_the_same_test() -> None:
    rng = np.random.default_rng(9)
    new, old = Sample(rng.normal(0.01, 1, 500)), Sample(rng.normal(0, 1, 400))
    effect = found(MEAN, new, old)
    assert (effect.relative, effect.relative_interval, effect.always_valid_relative) == (None,) * 3
    welch = stats.ttest_ind(new.numerator, old.numerator, equal_var=False)
    assert effect.p_value == pytest.approx(welch.pvalue, rel=1e-9)
    assert effect.absolute == pytest.approx(new.numerator.mean() - old.numerator.mean(), rel=1e-9)
    assert ends(effect.interval) == pytest.approx(tuple(welch.confidence_interval()), rel=1e-9)
    old_zero = found(MEAN, revenue(1, 300), Sample(np.zeros(300)))
    assert old_zero.relative is None
    assert old_zero.p_value < 1e-10


def test_refunds_may_make_a_ratio_negative() -> None:
    new, old = clicks(5, 500), clicks(6, 500)
    effect = found(RATIO, new._replace(numerator=-new.numerator), old)
    assert effect.variant_value < 0
    assert effect.relative is None
    assert effect.p_value < 0.01


def test_the_relative_interval_is_of_the_logarithm() -> None:
    new, old = revenue(1, 4000, 1.2), revenue(2, 4000)
    effect = found(MEAN, new, old)
    error = sum(arm.numerator.var(ddof=1) / 4000 / arm.numerator.mean() ** 2 for arm in (new, old))
    log = np.log(new.numerator.mean() / old.numerator.mean())
    ends_log = log + np.array([-1, 1]) * stats.norm.ppf(0.975) * error**0.5
    assert ends(effect.relative_interval) == pytest.approx(np.expm1(ends_log), rel=1e-2)
    assert effect.always_valid_relative is not None
    assert effect.always_valid_relative.low < np.expm1(ends_log[0])
    assert effect.always_valid_relative.high > np.expm1(ends_log[1])


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (Sample(np.array([1.0])), Sample(np.array([1.0, 2.0]))),
        (Sample(np.array([])), Sample(np.array([]))),
        (Sample(np.full(50, 0.1)), Sample(np.full(50, 0.1))),
        (Sample(np.full(50, 0.1)), Sample(np.full(70, 0.3))),
    ],
)
def test_no_test_without_units_or_variation(new: Sample, old: Sample) -> None:
    assert compare(MEAN, "new", new, old) is None
    assert compare(CAPPED, "new", new, old) is None


def test_no_test_where_nothing_was_shown() -> None:
    shown = clicks(5, 50)
    nothing = Sample(np.zeros(50), np.zeros(50))
    assert compare(RATIO, "new", nothing, shown) is None


def test_few_units_and_skewness_are_told() -> None:
    few = found(MEAN, revenue(1, 60), revenue(2, 200))
    assert few.warnings[0] == "new has 60 units: below 100, intervals are rough"
    assert few.always_valid is None
    one = np.zeros(5000)
    one[0] = 1
    skewed = found(MEAN, Sample(one), Sample(np.tile([0.0, 1.0], 2500)))
    skew = stats.skew(one)
    assert skewed.warnings == (
        f"new has 5,000 units, a skewness of {skew:.1f} asks for {355 * skew**2:,.0f}: p-values "
        "and intervals are rough; cap the metric, or wait",
    )


def test_other_metrics_and_columns_are_refused() -> None:
    sample = revenue(1, 10)
    with pytest.raises(AnalysisError, match=r"latency_p90: kind == quantile must be mean or ratio"):
        compare(P90, "new", sample, sample)
    with pytest.raises(AnalysisError, match=r"revenue: kind == mean must be quantile"):
        compare_values(MEAN, "new", *[Values(np.ones(2), np.arange(2), 2)] * 2)
    with pytest.raises(AnalysisError, match="sample of new must have a denominator"):
        compare(RATIO, "new", sample, sample)
    with pytest.raises(AnalysisError, match=r"columns of new have .* numbers; each must have one"):
        compare(CUPED, "new", sample._replace(covariate=np.ones(3)), sample)
    with pytest.raises(AnalysisError, match=r"numbers of the control must be finite; count what"):
        compare(MEAN, "new", sample, Sample(np.array([1.0, np.nan])))


def test_two_certain_values_are_no_test() -> None:
    assert wald((2.0, 1.0), (0.0, 0.0)) is None
