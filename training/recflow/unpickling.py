"""Unpickling that can make arrays and plain containers, and nothing else.

A pickle is a program. This loader refuses every class and function but those that RecFlow's files
are made of, so that a file from elsewhere cannot run code.
"""

import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from training.recflow.log import LogError

_CONTAINERS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    **{("builtins", kind.__name__): kind for kind in (bytes, dict, int, list, str, tuple)},
}

_RENAMED = {
    "__builtin__": "builtins",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
}
"""What Python 2 and numpy 2 call modules of other versions."""


def load_pickle(path: Path) -> object:
    """What a pickle holds.

    Raises:
        LogError: it is missing, empty or damaged, or holds anything but arrays, dictionaries,
            lists, tuples, integers and strings.
    """
    try:
        with path.open("rb") as file:
            content: object = _Unpickler(file, path).load()
            return content
    except LogError:
        raise
    except FileNotFoundError as error:
        raise LogError(f"{path} is missing; download it again") from error
    except Exception as error:  # whatever a damaged pickle raises
        raise LogError(
            f"{path} cannot be read ({type(error).__name__}: {error}); it is cut off or damaged, "
            "download it again"
        ) from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self._path = path
        self._allowed = {**_CONTAINERS, **_functions()}

    def find_class(self, module: str, name: str) -> object:
        known = self._allowed.get((_RENAMED.get(module, module), name))
        if known is None:
            raise LogError(
                f"{self._path} holds {module}.{name}, which is no part of a RecFlow file; it was "
                "not loaded, as it could run code. Take the file from the publisher"
            )
        return known


def _functions() -> dict[tuple[str, str], Any]:
    """What may be called; made for one file, as a pickle may set attributes of what it reaches."""

    def defaultdict_tuple() -> defaultdict[Any, tuple[Any, ...]]:
        return defaultdict(tuple)

    def defaultdict_str() -> defaultdict[Any, str]:
        return defaultdict(str)

    def from_buffer(
        buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]
    ) -> NDArray[Any]:
        array: NDArray[Any] = np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)
        return array

    def encode(text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError(f"bytes are encoded as {encoding!r}, not as latin1")
        return text.encode(encoding)

    return {
        ("utils", "defaultdict_tuple"): defaultdict_tuple,
        ("utils", "defaultdict_str"): defaultdict_str,
        ("_codecs", "encode"): encode,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.numeric", "_frombuffer"): from_buffer,
        # Numpy's own pickles name the functions that rebuild an array and a scalar.
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy.core.multiarray", "scalar"): np.int64(0).__reduce__()[0],
    }
