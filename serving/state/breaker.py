"""Breaker: asks no more of what keeps failing, but looks now and then whether it is back."""

from collections.abc import Callable


class Breaker:
    """Closed while calls succeed; opens after consecutive failures; one probe at a time closes it.

    Every call that was allowed must be followed by `succeeded` or `failed`.
    """

    def __init__(self, clock: Callable[[], float], max_failures: int, probe_after_s: float) -> None:
        """A closed breaker.

        Args:
            clock: seconds, from any beginning.
            max_failures: consecutive failures that open it.
            probe_after_s: an open breaker allows one call after this long.
        """
        self._clock = clock
        self._max_failures = max_failures
        self._probe_after_s = probe_after_s
        self._failures = 0
        self._next_probe_s = 0.0

    @property
    def open(self) -> bool:
        """Whether calls are turned away."""
        return self._failures >= self._max_failures

    def allow(self) -> bool:
        """Whether a call may be made; of an open breaker only the next probe may."""
        if not self.open:
            return True
        now_s = self._clock()
        if now_s < self._next_probe_s:
            return False
        self._next_probe_s = now_s + self._probe_after_s
        return True

    def succeeded(self) -> None:
        """A call succeeded: close."""
        self._failures = 0

    def failed(self) -> None:
        """A call failed."""
        self._failures += 1
        self._next_probe_s = self._clock() + self._probe_after_s
