"""Rate limits: how much one caller may ask of one worker.

A token bucket for each caller, kept as one number: the time at which the bucket is full again
(generic cell rate algorithm, ITU-T I.371). It is the worker's own, so no request waits for the
store; with several workers a caller gets the rate from each of them.
"""

from collections import OrderedDict
from collections.abc import Callable

BURST_S = 1.0
"""A caller that was quiet may spend what it was good for in this time at once."""
MAX_CALLERS = 10_000
"""Beyond these the one that asked longest ago is forgotten, which fills its bucket."""


class RateLimitError(RuntimeError):
    """A caller asked too much; `retry_after_s` says when its next request is taken."""

    def __init__(self, caller: str, rate_per_s: float, retry_after_s: float) -> None:
        """Tell a caller its rate."""
        self.retry_after_s = retry_after_s
        super().__init__(
            f"{caller} is good for {rate_per_s:g} requests a second; "
            f"try again in {retry_after_s:.3f} s"
        )


class RateLimiter:
    """The buckets of all callers of a worker."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """All buckets are full; `clock` gives monotonic seconds."""
        self._clock = clock
        self._full_at_s: OrderedDict[str, float] = OrderedDict()

    def take(self, caller: str, rate_per_s: float, cost: int = 1) -> None:
        """Take `cost` requests out of a caller's bucket.

        What costs more than the bucket holds is let through when the bucket is full but for one,
        and paid off afterwards.

        Raises:
            RateLimitError: there is not enough in it; nothing was taken.
        """
        now_s = self._clock()
        burst_s = max(BURST_S, 1 / rate_per_s)
        owed_s = max(self._full_at_s.get(caller, 0.0) - now_s, 0.0)
        one_s, cost_s = 1 / rate_per_s, cost / rate_per_s
        too_much_s = owed_s + min(cost_s, max(one_s, burst_s - one_s)) - burst_s
        # What the floating point of the sum leaves over is no reason to refuse.
        if too_much_s > 1e-9:
            raise RateLimitError(caller, rate_per_s, too_much_s)
        self._full_at_s[caller] = now_s + owed_s + cost_s
        self._full_at_s.move_to_end(caller)
        if len(self._full_at_s) > MAX_CALLERS:
            self._full_at_s.popitem(last=False)
