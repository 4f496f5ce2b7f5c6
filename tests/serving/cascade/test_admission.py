import pytest

from serving.cascade.admission import MAX_RETRY_AFTER_S, Admission, OverloadedError, retry_after_s


def test_more_than_the_limit_is_turned_away_and_let_in_when_there_is_room() -> None:
    admission = Admission(2)
    with admission.enter(1.0):
        with admission.enter(1.0):
            with (
                pytest.raises(
                    OverloadedError, match="2 requests are under way and 2 is the most; try again"
                ),
                admission.enter(1.0),
            ):
                pass
            assert admission.under_way == 2
        with admission.enter(1.0):
            pass
    assert admission.under_way == 0


def test_a_request_that_fails_leaves_its_place() -> None:
    admission = Admission(1)
    with pytest.raises(ZeroDivisionError), admission.enter(1.0):
        _ = 1 / 0
    assert admission.under_way == 0


def test_time_to_come_back_is_what_the_backlog_takes() -> None:
    admission = Admission(0)
    with pytest.raises(OverloadedError) as caught, admission.enter(500.0):
        pass
    assert caught.value.retry_after_s == 1
    found = [retry_after_s(ms) for ms in (0, 999, 1001, 5000, 10**6)]
    assert found == [1, 1, 2, 5, MAX_RETRY_AFTER_S]
