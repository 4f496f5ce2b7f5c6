"""Deadline: until when an answer is worth giving, carried through all stages of a request."""

import time
from typing import NamedTuple


class Deadline(NamedTuple):
    """A point on the monotonic clock of this process."""

    at_ns: int

    @classmethod
    def after(cls, duration_ms: float) -> "Deadline":
        """The deadline `duration_ms` from now."""
        return cls(time.perf_counter_ns() + round(duration_ms * 1_000_000))

    def remaining_ms(self) -> float:
        """Time left, negative when it is over."""
        return (self.at_ns - time.perf_counter_ns()) / 1_000_000
