"""The compiled kernels of training: where they are, what they are called with, whether they exist.

They are built with the package if there is a C++ compiler. Without them the torch paths run.
"""

import ctypes
import sysconfig
import warnings
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

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
    path = Path(__file__).with_name(f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}")
    try:
        return load(path)
    except OSError as error:
        reason = "they were not built" if not path.exists() else str(error)
        warnings.warn(
            f"the compiled kernels of training cannot be used ({reason}); torch operations, slower "
            "but equal in result, run instead; install a C++ compiler and then this package again",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def load(path: Path) -> ctypes.CDLL:
    """The library at a path, with the types of its functions.

    Raises:
        OSError: it is missing, is not a library, or was built from other sources.
    """
    loaded = ctypes.CDLL(str(path))
    version = getattr(loaded, "cascade_training_version", lambda: None)()
    if version != VERSION:
        raise OSError(f"{path.name} has version {version} and must have {VERSION}")
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


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
