"""Optimizer of sparse embeddings: one number of state a row, and only touched rows move.

Legend: R rows of a table, U touched rows, D width.
"""

import math
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.kernels.library import on_large_pages
from training.kernels.rows import COUNTED, update
from training.models.sparse_embedding import SparseEmbedding


class _State(NamedTuple):
    """State of one table."""

    vocabularies: tuple[int, ...]
    """Of the table when the state was last made to fit it."""
    moment_R: Tensor
    """float32"""
    counts_R: Tensor | None
    """int16, gradients a row has had; None without decay."""


class RowwiseOptimizer:
    """Row-wise Adagrad, or row-wise Adam without momentum.

    Each row has one moment m, for the mean square q over the row of its gradient g, and moves by
    `-lr * g / (sqrt(m) + eps)`:

    - Adagrad (Duchi, Hazan and Singer, 2011, section 5; row-wise as EXACT_ROWWISE_ADAGRAD in
      FBGEMM): m is the sum of all q. State is 4 bytes a row.
    - With a `decay`, Adam's second moment (Kingma and Ba, 2015, algorithm 1): m is the average of
      the q, weighted by `decay` to the power of their age. Age is counted in gradients of that very
      row, and so is the correction of the bias; with the global step, a row first seen late would
      make a step of `lr / sqrt(1 - decay)`. The count takes 2 more bytes a row; it stops at 32767.

    A row without gradient keeps its weights and state bit by bit, and takes no time. Results do not
    depend on the number of threads.
    """

    def __init__(
        self,
        embeddings: Iterable[SparseEmbedding],
        lr: float,
        decay: float | None = None,
        eps: float = 1e-8,
    ) -> None:
        """Make an optimizer of tables, which may grow later; new rows start without state.

        Args:
            embeddings: the tables, each once.
            lr: learning rate, above 0; `optimizer.lr` may be set between steps.
            decay: in (0, 1) for Adam, typically 0.999; None for Adagrad.
            eps: above 0.

        Raises:
            ValueError: a number out of range, or a table given twice.
        """
        self.lr = lr
        if not 0 < lr < math.inf:
            raise ValueError(f"lr == {lr} must be above 0 and finite")
        if decay is not None and not 0 < decay < 1:
            raise ValueError(f"decay == {decay} must be in (0, 1), or None for Adagrad")
        if not 0 < eps < math.inf:
            raise ValueError(f"eps == {eps} must be above 0 and finite")
        self.decay = decay
        self.eps = eps
        self.embeddings = tuple(embeddings)
        if len({id(embedding) for embedding in self.embeddings}) < len(self.embeddings):
            raise ValueError("embeddings has a table twice; it would make two steps")
        self._rates = None if decay is None else _rates(decay)
        self._states = [
            _empty(embedding.vocabularies, decay is not None) for embedding in self.embeddings
        ]

    def zero_grad(self) -> None:
        """Forget the gradients of all tables."""
        for embedding in self.embeddings:
            embedding.zero_gradient()

    @torch.no_grad()
    def step(self) -> None:
        """Move the touched rows against their gradients, which stay until `zero_grad`."""
        for place, embedding in enumerate(self.embeddings):
            touched = embedding.gradient()
            if touched is None:
                continue
            state = self._states[place] = _fitted(self._states[place], embedding)
            rates = None if self._rates is None else self._rates.to(embedding.weight_RD.device)
            update(
                *(embedding.weight_RD, state.moment_R, state.counts_R, rates, *touched),
                *(self.lr, self.eps),
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on; the tensors are not copied."""
        return {
            "lr": self.lr,
            "decay": self.decay,
            "eps": self.eps,
            "states": [state._asdict() for state in self._states],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        The tables may have grown since then.

        Raises:
            ValueError: it was taken of another rule, or of other tables.
        """
        if (state["decay"] is None) != (self.decay is None):
            raise ValueError(
                f"the state has decay {state['decay']} and the optimizer {self.decay}; one is "
                "Adagrad's and the other is not, so make the optimizer with the same"
            )
        states = [_State(**fields) for fields in state["states"]]
        found = [tuple(loaded.vocabularies) for loaded in states]
        own = [embedding.vocabularies for embedding in self.embeddings]
        fitting = len(found) == len(own) and all(
            len(old) == len(new) and all(a <= b for a, b in zip(old, new, strict=True))
            for old, new in zip(found, own, strict=True)
        )
        if not fitting:
            raise ValueError(
                f"the state is of tables with vocabularies {found} and the optimizer has {own}; "
                "make the tables with the same, or larger ones"
            )
        self.lr, self.decay, self.eps = state["lr"], state["decay"], state["eps"]
        self._rates = None if self.decay is None else _rates(self.decay)
        self._states = [
            _State(sizes, loaded.moment_R.clone(), _cloned(loaded.counts_R))
            for sizes, loaded in zip(found, states, strict=True)
        ]


def _cloned(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


def _rates(decay: float) -> Tensor:
    """How much the n-th gradient counts in the average, (1 - decay) / (1 - decay^n)."""
    powers = torch.arange(COUNTED + 1, dtype=torch.float64) * math.log(decay)
    return (math.expm1(math.log(decay)) / torch.expm1(powers)).float()


def _empty(vocabularies: tuple[int, ...], counted: bool) -> _State:
    rows = sum(vocabularies)
    counts_R = torch.zeros(rows, dtype=torch.int16) if counted else None
    return _State(vocabularies, on_large_pages(torch.empty(rows)).zero_(), counts_R)


def _fitted(state: _State, embedding: SparseEmbedding) -> _State:
    """The state where the table is, with rows for those it has grown by."""
    if state.vocabularies != embedding.vocabularies:
        grown = _empty(embedding.vocabularies, state.counts_R is not None)
        starts, old_starts = (
            accumulate(sizes, initial=0) for sizes in (grown.vocabularies, state.vocabularies)
        )
        for start, old_start, rows in zip(starts, old_starts, state.vocabularies, strict=False):
            old = slice(old_start, old_start + rows)
            grown.moment_R[start : start + rows] = state.moment_R[old]
            if grown.counts_R is not None and state.counts_R is not None:
                grown.counts_R[start : start + rows] = state.counts_R[old]
        state = grown
    device = embedding.weight_RD.device
    if state.moment_R.device == device:
        return state
    counts_R = None if state.counts_R is None else state.counts_R.to(device)
    return _State(state.vocabularies, state.moment_R.to(device), counts_R)
