"""The cascade as one function: what the peers serve, and what the floor is.

It loads the bundle that our server serves, with nothing but torch, FAISS and numpy, because peers
run it in environments of their own. The histories of all users are in memory, where our server
reads them from its store.

Legend: B requests, L history length, N candidates, K answered items.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BUNDLE, USERS = "BENCHMARK_BUNDLE", "BENCHMARK_USERS"
PORT, WORKERS = "BENCHMARK_PORT", "BENCHMARK_WORKERS"
"""Environment variables that tell a peer what to serve where."""


class Answers(NamedTuple):
    """The best items of B requests."""

    rows_BK: NDArray[np.int64]
    scores_BK: NDArray[np.float32]


class Recommender:
    """Recall from the index, rank, and answer."""

    def __init__(self, bundle: Path, users: Path) -> None:
        """Load a bundle, and the histories of the users (`history_rows_UL` of an `.npz`)."""
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        self._manifest = json.loads((bundle / "manifest.json").read_bytes())
        first, last = self._manifest["stages"]
        self._recalled, self._answered = first["keep"], last["keep"]
        self._retrieval = _stage(bundle, first["module"], self._manifest["tables"])
        self._rank = _stage(bundle, last["module"], self._manifest["tables"])
        self._index = faiss.read_index(str(bundle / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
        self._history_rows_UL = torch.from_numpy(np.load(users)["history_rows_UL"])

    def answer(self, users: Sequence[str]) -> Answers:
        """Answer requests of users, who are called `u0`, `u1` and so on."""
        with torch.inference_mode():
            request = self._request(users)
            rows_BN = self._recall(request)
            logits_BN = self._rank(*request, rows_BN)
            scores_BK, places_BK = logits_BN.topk(self._answered, dim=1)
            return Answers(rows_BN.gather(1, places_BK).numpy(), scores_BK.numpy())

    def candidates(self, user: str) -> dict[str, float]:
        """Scores of all items that are ranked for a user."""
        with torch.inference_mode():
            request = self._request([user])
            rows_BN = self._recall(request)
            logits_BN = self._rank(*request, rows_BN)
        names = map(item_id, rows_BN[0].tolist())
        return dict(zip(names, logits_BN[0].tolist(), strict=True))

    def recommend(self, users: Sequence[str]) -> list[dict[str, Any]]:
        """Bodies of the answers to requests of users."""
        rows_BK, scores_BK = self.answer(users)
        return [
            {
                "items": [
                    {"item_id": item_id(row), "position": position, "score": score}
                    for position, (row, score) in enumerate(zip(rows, scores, strict=True))
                ]
            }
            for rows, scores in zip(rows_BK.tolist(), scores_BK.tolist(), strict=True)
        ]

    def _request(self, users: Sequence[str]) -> tuple[Tensor, ...]:
        rows_BL = self._history_rows_UL[[int(user[1:]) for user in users]]
        B, L = rows_BL.shape
        nothing_B0 = torch.zeros(B, 0, dtype=torch.int64)
        length_B = torch.full((B,), L, dtype=torch.int64)
        ages_BL, snapshot_B = torch.zeros(B, L), torch.zeros(B, dtype=torch.int64)
        return nothing_B0, nothing_B0, rows_BL, ages_BL, length_B, snapshot_B

    def _recall(self, request: tuple[Tensor, ...]) -> Tensor:
        user_BD = self._retrieval.encode_user(*request).numpy()
        _, places_BN = self._index.search(user_BD, self._recalled)
        return torch.from_numpy(places_BN) + 1


def from_environment() -> Recommender:
    """The recommender that a peer shall serve."""
    return Recommender(Path(os.environ[BUNDLE]), Path(os.environ[USERS]))


def item_id(row: int) -> str:
    """Id of the item at a row."""
    return f"i{row}"


def _stage(bundle: Path, name: str, tables: dict[str, dict[str, str]]) -> torch.jit.ScriptModule:
    module: torch.jit.ScriptModule = torch.jit.load(str(bundle / name))
    module.eval()
    for buffer, file in tables.get(name, {}).items():
        setattr(module, buffer, torch.from_numpy(np.load(bundle / file, mmap_mode="c")))
    return module
