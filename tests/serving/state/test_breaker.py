from serving.state.breaker import Breaker


def test_opens_after_consecutive_failures_and_probes_once_at_a_time() -> None:
    now_s = 100.0
    breaker = Breaker(lambda: now_s, max_failures=2, probe_after_s=1.0)
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.allow()
    assert not breaker.open
    breaker.failed()
    assert breaker.open
    assert not breaker.allow()
    now_s += 1.0
    assert [breaker.allow(), breaker.allow()] == [True, False]
    breaker.failed()
    now_s += 0.9
    assert not breaker.allow()
    now_s += 0.1
    assert breaker.allow()
    breaker.succeeded()
    assert [breaker.allow(), breaker.allow()] == [True, True]
