import pytest

from serving.bundles.agreement import Agreement
from serving.bundles.tally import Tally, quantile_ms, total, unpack

SAME = Agreement(1.0, 1.0, 1.0)
OTHER = Agreement(0.5, 0.0, None)


def test_tallies_survive_packing_and_add_up() -> None:
    here, there = Tally(failed=1, dropped=4), Tally(failed=2, dropped=3)
    here.compare(SAME, served_us=1000, candidate_us=2000)
    there.compare(OTHER, served_us=1000, candidate_us=500)
    whole = total(unpack(tally.pack()) for tally in (here, there))
    assert (whole.compared, whole.failed, whole.dropped) == (2, 1 + 2, 4 + 3)
    assert (whole.overlap, whole.first) == (1.0 + 0.5, 1.0 + 0.0)
    assert (whole.rank_correlation, whole.correlated) == (1.0, 1)
    assert list(whole.served_us.values()) == [2]
    assert sorted(whole.candidate_us.values()) == [1, 1]


def test_quantiles_are_within_a_bucket_of_the_exact_ones() -> None:
    tally = Tally()
    for duration_us in range(1, 10_001):
        tally.compare(SAME, served_us=duration_us, candidate_us=0)
    assert quantile_ms(tally.served_us, 0.5) == pytest.approx(5.0, rel=0.025)
    assert quantile_ms(tally.served_us, 0.95) == pytest.approx(9.5, rel=0.025)
    assert quantile_ms({}, 0.5) is None
