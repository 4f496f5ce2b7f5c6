"""Passage: one request on its way through the stages, and what is remembered of it.

Legend: N candidates, K items of the answer.
"""

from random import Random

import numpy as np

from abtest.events import StageTrace
from serving.cascade.items import Items
from serving.cascade.query import Explanation, Query
from serving.cascade.recall.recalled import Float32, Recalled
from serving.cascade.rerank.ruling import Ruling
from training.features import Int64

TRACED_SURVIVORS = 20
TRACED_DROPPED = 10


class Passage:
    """Candidates of one request, best first, and the traces of the stages behind it."""

    def __init__(
        self,
        query: Query,
        ruling: Ruling,
        recalled: Recalled,
        items: Items,
        recall_stage: str,
    ) -> None:
        """Begin with what was recalled."""
        self.query = query
        self.ruling = ruling
        self.ranked = False
        """The scores are logits of a ranking stage."""
        self.rng = Random(query.request_id)
        self.rows_N = recalled.rows_N
        self.scores_N = recalled.scores_N
        self.degraded = (*recalled.degraded, *query.rung.reason)
        self.traces: list[StageTrace] = []
        self._items = items
        self._recalled = recalled
        self._scored = [(recall_stage, recalled.rows_N, recalled.scores_N)]

    def cut(self, size: int) -> None:
        """Go on with the best `size` candidates."""
        self.rows_N, self.scores_N = self.rows_N[:size], self.scores_N[:size]

    def recall_done(self, n_in: int, drawn: Int64, drawn_scores: Float32) -> None:
        """Trace recall, with items drawn from those it left behind."""
        name, rows_N, _ = self._scored[0]
        self._trace(name, n_in, len(rows_N), (drawn, drawn_scores))

    def rank_done(self, name: str, scores_N: Float32, survivors: int) -> None:
        """Order the candidates by a stage's scores, and trace who is among its survivors."""
        order = np.argsort(-scores_N, kind="stable")
        self.rows_N, self.scores_N = self.rows_N[order], scores_N[order]
        self._scored.append((name, self.rows_N, self.scores_N))
        self.ranked = True
        rest = range(survivors, len(order))
        drawn = self.rng.sample(rest, min(TRACED_DROPPED, len(rest)))
        n_out = min(survivors, len(order))
        self._trace(name, len(order), n_out, (self.rows_N[drawn], self.scores_N[drawn]))

    def explained(
        self, rows_K: Int64, rules_K: tuple[tuple[str, ...], ...], sources: tuple[str, ...]
    ) -> tuple[Explanation, ...]:
        """How each item of the answer came into it."""
        by_stage = [
            (name, dict(zip(rows.tolist(), scores.tolist(), strict=True)))
            for name, rows, scores in self._scored
        ]
        recalled = self._recalled
        bits = dict(zip(recalled.rows_N.tolist(), recalled.sources_N.tolist(), strict=True))
        return tuple(
            Explanation(
                sources=tuple(name for s, name in enumerate(sources) if bits.get(row, 0) >> s & 1),
                scores={name: scores[row] for name, scores in by_stage if row in scores},
                rules=rules,
            )
            for row, rules in zip(rows_K.tolist(), rules_K, strict=True)
        )

    def _trace(self, name: str, n_in: int, n_out: int, drawn: tuple[Int64, Float32]) -> None:
        traced = min(n_out, TRACED_SURVIVORS)
        rows, scores = drawn
        self.traces.append(
            StageTrace(
                name=name,
                n_in=n_in,
                n_out=n_out,
                item_ids=self._items.item_ids(self.rows_N[:traced]) + self._items.item_ids(rows),
                scores=(*self.scores_N[:traced].tolist(), *scores.tolist()),
                survived=(True,) * traced + (False,) * len(rows),
            )
        )
