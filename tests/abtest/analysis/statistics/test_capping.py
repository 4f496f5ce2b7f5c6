import numpy as np
import pytest

from abtest.analysis.sample import Sample
from abtest.analysis.statistics.capping import cap
from abtest.analysis.statistics.effect import AnalysisError


def test_both_arms_get_one_cap_and_covariates_their_own() -> None:
    new = Sample(np.arange(100.0), covariate=np.arange(100.0) * 10)
    old = Sample(np.arange(300.0), covariate=np.arange(300.0) * 10)
    capped_new, capped_old, limit = cap(new, old, 0.9)
    pooled = np.concatenate((new.numerator, old.numerator))
    assert limit == np.quantile(pooled, 0.9)
    assert capped_old.numerator.max() == limit
    assert capped_new.numerator.tolist() == new.numerator.tolist()
    assert capped_old.covariate is not None
    assert limit is not None
    assert capped_old.covariate.max() == pytest.approx(10 * limit)


def test_refunds_stay() -> None:
    new, old = Sample(np.array([-50.0, 1, 2, 3])), Sample(np.array([1.0, 2, 3, 100]))
    assert cap(new, old, 0.75)[0].numerator[0] == -50


def test_a_ratio_is_refused() -> None:
    ratio = Sample(np.ones(2), np.ones(2))
    with pytest.raises(AnalysisError, match=r"cap_quantile == 0.9 is of a ratio; only totals"):
        cap(ratio, ratio, 0.9)
