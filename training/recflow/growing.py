"""Growing array: an .npy file that rows are appended to and read from meanwhile."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 128
"""What numpy takes for the header of an array with few dimensions."""
FIRST_ROWS = 1024

Int32 = NDArray[np.int32]


class GrowingArray:
    """An int32 array on disk; its memory is the page cache's, whatever its size."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        """Begin a file with one row of zeros.

        Args:
            path: of the file.
            shape: of a row.
        """
        self._path = path
        self._shape = shape
        self._length = 1
        path.touch()
        self._map = self._mapped(FIRST_ROWS)

    def __len__(self) -> int:
        return self._length

    @property
    def rows(self) -> Int32:
        """The rows so far; valid until the next `extend`."""
        return self._map[: self._length]

    def extend(self, rows: Int32) -> None:
        """Append rows."""
        end = self._length + len(rows)
        if end > len(self._map):
            self._map = self._mapped(2 * end)
        self._map[self._length : end] = rows
        self._length = end

    def finish(self, path: Path) -> None:
        """Move the array to its file; nothing can be added any more."""
        self._map = self._mapped(self._length)
        self._map.flush()
        with self._path.open("r+b") as file:
            header = {
                "descr": np.lib.format.dtype_to_descr(self._map.dtype),
                "fortran_order": False,
                "shape": self._map.shape,
            }
            np.lib.format.write_array_header_1_0(file, header)
            if file.tell() != HEADER_BYTES:
                raise AssertionError(f"numpy's header has {file.tell()} bytes, not {HEADER_BYTES}")
        self._path.rename(path)

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink()

    def _mapped(self, rows: int) -> "np.memmap[Any, np.dtype[np.int32]]":
        shape = (rows, *self._shape)
        with self._path.open("r+b") as file:
            file.truncate(HEADER_BYTES + 4 * int(np.prod(shape)))
        return np.memmap(self._path, np.int32, "r+", HEADER_BYTES, shape)
