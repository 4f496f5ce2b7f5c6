"""The compiled kernels of training: where they are, what they are called with, whether they exist.

They are built with the package if there is a C++ compiler. Without them the torch paths run.
"""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from operators.kernels import compiled

VERSION = 1
"""What `cascade_training_version` of a library built from the sources here returns."""

_POINTER, _INT64, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
_ATTENTION = [*6 * [_POINTER], *5 * [_INT64]]
_SIGNATURES = {
    "cascade_training_instruction_set": (_INT, []),
    "cascade_large_pages": (None, [_POINTER, _INT64]),
    "cascade_attention": (_INT, [*_ATTENTION, *2 * [_POINTER], _INT, _INT]),
    "cascade_attention_backward": (_INT, [*_ATTENTION, *6 * [_POINTER], _INT, _INT]),
    "cascade_gather": (None, [*4 * [_POINTER], *3 * [_INT64], _POINTER, _INT]),
    "cascade_coalesce": (
        _INT64,
        [*6 * [_POINTER], _INT64, *2 * [_POINTER], *2 * [_INT64], *2 * [_POINTER], _INT],
    ),
    "cascade_update": (None, [*6 * [_POINTER], *2 * [_INT64], _FLOAT, _FLOAT, _INT]),
}


@cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None and one warning if it is not there or cannot be loaded."""
    return compiled.find(Path(__file__).parent, "training", load)


def load(path: Path) -> ctypes.CDLL:
    """The library at a path, with the types of its functions.

    Raises:
        OSError: it is missing, is not a library, or was built from other sources.
    """
    return compiled.load(path, "cascade_training_version", VERSION, _SIGNATURES)


def takes(*tensors: Tensor) -> bool:
    """Whether the kernels can be called with these floats: float32, on the CPU, and built."""
    plain = all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors)
    return plain and library() is not None


def loaded() -> ctypes.CDLL:
    """The compiled library, of which `takes` said that it is there."""
    found = library()
    assert found is not None, "callers ask takes() first"
    return found


@cache
def instruction_set() -> int:
    """The best of this processor and the library: 0 portable, 1 AVX2, 2 AVX-512; -1 for none."""
    found = library()
    return -1 if found is None else int(found.cascade_training_instruction_set())


def on_large_pages(tensor: Tensor) -> Tensor:
    """The same tensor, which nothing was written to yet, on large pages where the system can.

    Rows of a large table are then found faster, and the first write to it takes less time.
    """
    if takes(tensor):
        loaded().cascade_large_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor
