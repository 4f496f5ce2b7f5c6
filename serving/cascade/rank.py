"""Rank: a TorchScript stage scores the candidates it is given.

Legend: B requests (here 1), N candidates.
"""

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

    def scores(self, tensors: RequestTensors, rows_N: Int64) -> NDArray[np.float32]:
        """Logits [N] of the candidates of one request.

        Raises:
            RankError: the module fails, or a score is not finite.
        """
        rows_BN = torch.from_numpy(rows_N)[None, :].to(self._device)
        try:
            with torch.inference_mode():
                logits_BN = self._module(*(t.to(self._device) for t in tensors), rows_BN)
        except (RuntimeError, torch.jit.Error) as error:
            raise RankError(f"stage {self.name} failed: {error}") from error
        scores_N: NDArray[np.float32] = logits_BN[0].float().cpu().numpy()
        if not np.isfinite(scores_N).all():
            bad = int((~np.isfinite(scores_N)).sum())
            raise RankError(f"stage {self.name} gave {bad} of {len(scores_N)} scores not finite")
        return scores_N
