"""Token buckets: rates, bursts, debts, and callers that do not share."""

import pytest

from serving.api.rate_limit import MAX_CALLERS, RateLimiter, RateLimitError
from tests.serving.api.test_key_ring import Clock


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for _ in range(10):
        limiter.take("shop", 10.0)
    with pytest.raises(RateLimitError) as refused:
        limiter.take("shop", 10.0)
    assert refused.value.retry_after_s == pytest.approx(1 / 10)
    assert str(refused.value) == "shop is good for 10 requests a second; try again in 0.100 s"
    clock.now_s += 1 / 10
    limiter.take("shop", 10.0)
    with pytest.raises(RateLimitError):
        limiter.take("shop", 10.0)


def test_over_a_long_time_the_rate_is_exact() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    taken = 0
    for _ in range(100 * 60):  # a minute, asked a hundred times a second
        clock.now_s += 0.01
        try:
            limiter.take("shop", 7.0)
        except RateLimitError:
            continue
        taken += 1
    assert taken in (7 + 7 * 60 - 1, 7 + 7 * 60)


def test_refused_requests_cost_nothing() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    limiter.take("shop", 1.0)
    for _ in range(100):
        with pytest.raises(RateLimitError):
            limiter.take("shop", 1.0)
    clock.now_s += 1.0
    limiter.take("shop", 1.0)


def test_a_slow_rate_lets_one_through() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    limiter.take("shop", 0.1)
    with pytest.raises(RateLimitError) as refused:
        limiter.take("shop", 0.1)
    assert refused.value.retry_after_s == pytest.approx(10)


def test_what_costs_more_than_the_bucket_is_paid_off_afterwards() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    limiter.take("shop", 10.0, cost=50)
    with pytest.raises(RateLimitError) as refused:
        limiter.take("shop", 10.0)
    assert refused.value.retry_after_s == pytest.approx((50 - 10 + 1) / 10)


def test_callers_do_not_share_and_who_asked_longest_ago_is_forgotten() -> None:
    limiter = RateLimiter(Clock())
    limiter.take("first", 2.0)
    for number in range(MAX_CALLERS - 1):
        limiter.take(f"other {number}", 1.0)
    limiter.take("first", 2.0)
    with pytest.raises(RateLimitError):
        limiter.take("other 0", 1.0)
    limiter.take("one more", 1.0)
    limiter.take("other 0", 1.0)  # forgotten, and so full again
    with pytest.raises(RateLimitError):
        limiter.take("first", 2.0)
