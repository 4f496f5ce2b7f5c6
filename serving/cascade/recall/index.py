"""Index: the bundle's FAISS index, and how a search leaves rows out of it.

Legend: B requests, D width, k results.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from serving.cascade.recall.recalled import Float32
from training.features import Int64

MAX_GPU_RESULTS = 2048
"""FAISS on a GPU gives no more."""
WIDEST = 4.0
"""Where rows are hidden, at most so many times the usual inverted lists are looked at."""

Bits = NDArray[np.uint8]

# The type stubs of FAISS know neither its keyword arguments nor what it has for a GPU.
_faiss: Any = faiss


class Index:
    """Nearest positions, in one search for several requests; position p is row p + 1."""

    def __init__(self, index: faiss.Index) -> None:
        """Search an index that does not change."""
        self._index = index
        self.size: int = index.ntotal
        self.on_gpu = hasattr(faiss, "GpuIndex") and isinstance(index, _faiss.GpuIndex)
        self.most = min(self.size, MAX_GPU_RESULTS) if self.on_gpu else self.size
        """Results a search can give."""

    def search(self, users_BD: Float32, k: int) -> tuple[Float32, Int64]:
        """Scores and positions [B, k], best first; position -1 where there are fewer results."""
        found: tuple[Float32, Int64] = self._index.search(users_BD, k)
        return found

    def search_open(
        self, users_BD: Float32, k: int, open_bits: Bits, share: float
    ) -> tuple[Float32, Int64]:
        """Scores and positions [B, k] of open positions only; not on a GPU.

        Args:
            users_BD: user vectors.
            k: results.
            open_bits: a bit a position, the lowest of each byte first.
            share: of the positions that are open. The fewer are, the wider an approximate search
                looks: the nearest open ones are farther away.
        """
        selector = _faiss.IDSelectorBitmap(open_bits)
        found: tuple[Float32, Int64] = self._index.search(
            users_BD, k, params=self._parameters(selector, k, 1 / share)
        )
        return found

    def _parameters(self, selector: object, k: int, wider: float) -> Any:  # noqa: ANN401  # see `_faiss`
        index: Any = self._index
        if isinstance(index, faiss.IndexIVF):
            nprobe = min(round(index.nprobe * min(wider, WIDEST)), index.nlist)
            return _faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)
        if isinstance(index, faiss.IndexHNSW):
            # The graph is walked over hidden items, too, and they fill the walk's list.
            ef = round(max(index.hnsw.efSearch, k) * wider)
            return _faiss.SearchParametersHNSW(sel=selector, efSearch=ef)
        return _faiss.SearchParameters(sel=selector)


def read_index(path: Path, device: torch.device) -> Index:
    """Read an index, on the CPU mapped from its file and shared with other processes.

    Raises:
        RuntimeError: FAISS cannot read the file.
    """
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    if device.type == "cuda" and faiss.get_num_gpus():
        resources = _faiss.StandardGpuResources()
        return Index(_faiss.index_cpu_to_gpu(resources, device.index or 0, index))
    return Index(index)
