import pytest

from serving.cascade.ladder import FEWER_SHARE, Pace, Rung


def paced(recall_ms: float = 2.0, rank_ms: float = 8.0) -> Pace:
    pace = Pace()
    pace.note(Rung.WHOLE, recall_ms, rank_ms)
    return pace


@pytest.mark.parametrize(
    ("budget_ms", "rung"),
    [
        (10.0, Rung.WHOLE),
        (9.9, Rung.FEWER),
        (2.0 + FEWER_SHARE * 8.0, Rung.FEWER),
        (3.9, Rung.RETRIEVAL),
        (2.0, Rung.RETRIEVAL),
        (1.9, Rung.POPULAR),
        (0.0, Rung.POPULAR),
    ],
)
def test_the_best_answer_that_fits(budget_ms: float, rung: Rung) -> None:
    assert paced().rung(budget_ms) is rung


def test_nothing_measured_is_tried_whole() -> None:
    assert Pace().rung(0.1) is Rung.WHOLE
    assert Pace().request_ms == 0


def test_the_average_follows_slowly() -> None:
    pace = paced()
    pace.note(Rung.WHOLE, 12.0, 18.0)
    assert pace.request_ms == pytest.approx((2.0 + 0.1 * 10.0) + (8.0 + 0.1 * 10.0))


def test_a_rung_measures_what_it_runs() -> None:
    pace = paced()
    pace.note(Rung.FEWER, 2.0, FEWER_SHARE * 18.0)
    assert pace.request_ms == pytest.approx(2.0 + (8.0 + 0.1 * 10.0))


@pytest.mark.parametrize(
    ("rung", "recall_ms", "rank_ms"),
    [
        (Rung.RETRIEVAL, 2.0, 1000.0),
        (Rung.POPULAR, 2.0, 1000.0),
        (Rung.POPULAR, 1000.0, 2.0),
    ],
)
def test_what_is_left_out_is_tried_again_after_a_while(
    rung: Rung, recall_ms: float, rank_ms: float
) -> None:
    pace = paced(recall_ms, rank_ms)
    for _ in range(200):
        if pace.rung(20.0) is Rung.WHOLE:
            return
        pace.note(rung, 2.0, 0.0)
    raise AssertionError("the ladder is never climbed again")


def test_reasons_name_the_rung() -> None:
    assert [rung.reason for rung in Rung] == [
        (), ("ladder:fewer",), ("ladder:retrieval",), ("ladder:popular",),
    ]  # fmt: skip
