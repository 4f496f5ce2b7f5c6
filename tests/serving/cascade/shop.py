"""A shop of 30 items with random colours, prices and vectors, and its last order."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.cascade.items import Items
from serving.cascade.policy import Policy
from serving.cascade.rerank.reranked import Reranked
from serving.cascade.rerank.reranker import Reranker
from serving.cascade.rerank.rulebook import Rulebook
from serving.cascade.rerank.rules import Rules
from serving.telemetry.metrics import Metrics
from training.bundle import ItemTable
from training.features import CategoricalField, Int64, ItemIndex

N = 30
COLOURS = ("red", "blue", "green")
MIDNIGHT_US = 1_772_323_200_000_000
"""2026-03-01T00:00:00Z"""

Float32 = NDArray[np.float32]

quick = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 2**32 - 1)


class Shop:
    """Items i1 to i30 with random colours, prices and vectors, and a reranker of them."""

    def __init__(self, seed: int = 0, **rules: Any) -> None:  # noqa: ANN401
        rng = np.random.default_rng(seed)
        table = ItemTable(
            index=ItemIndex([f"i{n}" for n in range(1, N + 1)]),
            price_micros=rng.integers(1, 100, N) * 1_000_000,
            available=np.ones(N, dtype=np.bool_),
            popularity=np.zeros(N, dtype=np.float32),
        )
        self.colours = np.concatenate([[0], rng.integers(0, len(COLOURS) + 1, N)])
        self.items = Items(table, {"colour": self.colours}, spare_rows=1)
        self.vectors = rng.normal(size=(N + 2, 4)).astype(np.float32)
        self.rulebook = Rulebook(Path("no folder", "rules.toml"), Metrics())
        self.rulebook.rules = Rules.model_validate(rules)
        field = CategoricalField(name="colour", vocabulary=COLOURS)
        self.reranker = Reranker("tiny", self.items, (field,), self.look_up, self.rulebook)
        self.rows = rng.permutation(N).astype(np.int64)[:25] + 1
        self.scores = np.sort(rng.normal(size=25).astype(np.float32))[::-1].copy()

    def look_up(self, rows_N: Int64) -> Float32:
        return self.vectors[rows_N]

    def order(
        self,
        num: int = 10,
        policy: dict[str, Any] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Reranked:
        return self.reranker.order(
            options.pop("rows", self.rows),
            options.pop("scores", self.scores),
            num=num,
            policy=Policy(bundle="tiny", **(policy or {})),
            ruling=self.reranker.ruling(options.pop("context", {}), MIDNIGHT_US),
            **options,
        )

    def names(self, answer: Reranked) -> list[str]:
        return list(self.items.item_ids(answer.rows_K))


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "probability_exponent": draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])),
        "price_exponent": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "diversity": draw(st.sampled_from(["none", "mmr", "dpp"])),
        "diversity_strength": draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])),
        **draw(
            st.one_of(
                st.just({}),
                st.fixed_dictionaries({"cap_field": st.just("colour"), "cap": st.integers(1, 6)}),
            )
        ),
    }
