"""Rank: a TorchScript stage scores the candidates it is given. Legend: B requests, N candidates."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.features import Int64, RequestTensors


class RankError(RuntimeError):
    """A stage gave no usable scores; the order of the stage before it stands."""


class Ranker:
    """One ranking stage on its device."""

    def __init__(
        self, name: str, module: torch.jit.ScriptModule, keep: int, device: torch.device
    ) -> None:
        """Score with `module`, which passes on `keep` candidates."""
        self.name = name
        self.keep = keep
        self._module = module
        self._device = device

    def scores(
        self, tensors: RequestTensors, rows_BN: Sequence[Int64]
    ) -> list[NDArray[np.float32] | RankError]:
        """Logits [N] of each request's candidates, however many each has.

        Where a request's scores are not finite, or the module fails on the whole batch, its place
        holds the error: what is wrong with one request must not spoil the others.
        """
        try:
            logits_BN = self._logits(tensors, rows_BN)
        except (RuntimeError, torch.jit.Error) as error:
            if len(rows_BN) > 1:
                return [
                    self.scores(RequestTensors(*(t[b : b + 1] for t in tensors)), [rows_N])[0]
                    for b, rows_N in enumerate(rows_BN)
                ]
            failure = RankError(f"stage {self.name} failed: {error}")
            failure.__cause__ = error
            return [failure]
        return [
            self._checked(logits_N[: len(rows_N)])
            for logits_N, rows_N in zip(logits_BN, rows_BN, strict=True)
        ]

    def _logits(self, tensors: RequestTensors, rows_BN: Sequence[Int64]) -> NDArray[np.float32]:
        # Shorter lists are padded with the unknown item, whose scores are cut off again.
        width = max(map(len, rows_BN))
        padded_BN = np.zeros((len(rows_BN), width), dtype=np.int64)
        for padded_N, rows_N in zip(padded_BN, rows_BN, strict=True):
            padded_N[: len(rows_N)] = rows_N
        rows = torch.from_numpy(padded_BN).to(self._device)
        with torch.inference_mode():
            logits_BN = self._module(*(t.to(self._device) for t in tensors), rows)
        scores_BN: NDArray[np.float32] = logits_BN.float().cpu().numpy()
        return scores_BN

    def _checked(self, scores_N: NDArray[np.float32]) -> NDArray[np.float32] | RankError:
        finite_N = np.isfinite(scores_N)
        if finite_N.all():
            return scores_N
        bad = int((~finite_N).sum())
        return RankError(f"stage {self.name} gave {bad} of {len(scores_N)} scores not finite")
