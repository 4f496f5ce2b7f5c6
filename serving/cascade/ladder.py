"""Ladder: what is left out when time is short or too much is asked, cheapest answer last.

Each rung is visible in the answer's `degraded`. What a stage will take is foretold from what it
took lately.
"""

from enum import IntEnum

FEWER_SHARE = 0.25
"""Share of the candidates that are ranked on the second rung."""
_MEMORY = 0.1
"""Weight of the newest measurement in the moving average."""
_FADE = 0.95


class Rung(IntEnum):
    """How much of the cascade answers a request."""

    WHOLE = 0
    FEWER = 1
    """The best of the recalled candidates are ranked."""
    RETRIEVAL = 2
    """The order of the first stage is the answer."""
    POPULAR = 3
    """No model is asked: popular items."""

    @property
    def reason(self) -> tuple[str, ...]:
        """What `degraded` says about an answer from this rung."""
        return () if self is Rung.WHOLE else (f"ladder:{self.name.lower()}",)


class Pace:
    """How long the stages of a bundle take for one request, lately."""

    def __init__(self) -> None:
        """Nothing measured: every stage is taken to be free."""
        self._recall_ms = 0.0
        self._rank_ms = 0.0

    @property
    def request_ms(self) -> float:
        """What one whole answer takes; 0 before the first."""
        return self._recall_ms + self._rank_ms

    def note(self, rung: Rung, recall_ms: float, rank_ms: float) -> None:
        """Remember what an answer from a rung took, for each request of its batch.

        What a rung leaves out is not measured, so its estimate fades until it is tried again.
        """
        if rung < Rung.POPULAR:
            self._recall_ms = _moved(self._recall_ms, recall_ms)
        else:
            self._recall_ms *= _FADE
        if rung <= Rung.FEWER:
            whole_ms = rank_ms if rung is Rung.WHOLE else rank_ms / FEWER_SHARE
            self._rank_ms = _moved(self._rank_ms, whole_ms)
        else:
            self._rank_ms *= _FADE

    def rung(self, budget_ms: float) -> Rung:
        """The best answer that fits into the time that is left."""
        if self._recall_ms + self._rank_ms <= budget_ms:
            return Rung.WHOLE
        if self._recall_ms + FEWER_SHARE * self._rank_ms <= budget_ms:
            return Rung.FEWER
        return Rung.RETRIEVAL if self._recall_ms <= budget_ms else Rung.POPULAR


def _moved(average_ms: float, newest_ms: float) -> float:
    return newest_ms if average_ms == 0 else average_ms + _MEMORY * (newest_ms - average_ms)
