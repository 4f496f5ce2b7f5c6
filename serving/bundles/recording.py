"""Recording: the last requests each name answered, to test a bundle on before it answers."""

from collections import deque
from typing import NamedTuple

from serving.cascade.query import Outcome, Query

RECORDED_REQUESTS = 32


class Recorded(NamedTuple):
    """A request as it was answered."""

    query: Query
    degraded: tuple[str, ...]
    """What was wrong with the answer then: the same may be wrong in a test."""


class Recording:
    """A ring of requests for each served name."""

    def __init__(self) -> None:
        """Nothing answered yet."""
        self._rings: dict[str, deque[Recorded]] = {}

    def note(self, name: str, query: Query, outcome: Outcome) -> None:
        """Remember a request in the place of the oldest one."""
        ring = self._rings.get(name)
        if ring is None:
            ring = self._rings[name] = deque(maxlen=RECORDED_REQUESTS)
        ring.append(Recorded(query, outcome.degraded))

    def of(self, name: str) -> tuple[Recorded, ...]:
        """The remembered requests of a name, oldest first."""
        return tuple(self._rings.get(name, ()))
