"""Admission: how many requests a worker takes on at once; the others are turned away at once.

A queue that grows answers nobody in time. What is turned away costs a fraction of a millisecond and
is told when to come back.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

MAX_RETRY_AFTER_S = 30


class OverloadedError(RuntimeError):
    """The worker has more to do than it can do in time."""

    def __init__(self, reason: str, message: str, retry_after_s: int) -> None:
        """Say what is too much, and after how many seconds to try again.

        Args:
            reason: `queue` or `deadline`, as it is counted.
            message: for whoever asked.
            retry_after_s: when there may be room again.
        """
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Admission:
    """Counts the requests under way and bounds them."""

    def __init__(self, limit: int) -> None:
        """Let in at most `limit` requests at a time."""
        self._limit = limit
        self.under_way = 0

    @contextmanager
    def enter(self, request_ms: float) -> Iterator[None]:
        """Be one of the requests under way inside the block.

        Args:
            request_ms: what one request takes at present, from which the time to come back is
                computed.

        Raises:
            OverloadedError: there are too many.
        """
        if self.under_way >= self._limit:
            raise OverloadedError(
                "queue",
                f"{self.under_way} requests are under way and {self._limit} is the most; "
                "try again after the time in Retry-After, or serve with more workers",
                retry_after_s(self.under_way * request_ms),
            )
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


def retry_after_s(backlog_ms: float) -> int:
    """Whole seconds after which a backlog will be gone: 1 to `MAX_RETRY_AFTER_S`."""
    return min(MAX_RETRY_AFTER_S, max(1, math.ceil(backlog_ms / 1000)))
