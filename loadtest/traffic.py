"""Traffic: what visits ask for, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field

LONGEST_THINK = 3.0
"""In mean think times, so that the end of a step does not wait for a rare long one."""


@dataclass(frozen=True)
class Traffic:
    """What visits ask for, and how."""

    num: int = 20
    """Items asked for."""
    buying_share: float = 0.3
    """Visits that end in a click and a purchase."""
    think_s: float = 0.2
    """Mean time between the answer and the purchase."""
    within_ms: float = 100.0
    """An answer counts as goodput when it came within this time."""
    timeout_s: float = 5.0
    """After which nothing is waited for."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request."""


def longest_wait_s(traffic: Traffic) -> float:
    """How long after a step's end its last visit can still be under way."""
    return LONGEST_THINK * traffic.think_s + 6 * traffic.timeout_s
