"""Publisher: writes days of a log to the files RecFlow is published in.

Legend: R requests of a day, L history length, S slots of a list.
"""

import pickle
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.recflow import schema
from training.recflow.schema import ROW_COLUMNS, SPACED, VIDEO_COLUMNS

Int64 = NDArray[np.int64]


class FeatherWriter:
    """A feather of int64 columns, written piece by piece."""

    def __init__(self, path: Path, columns: tuple[str, ...], *, spaced: bool) -> None:
        """Begin a file.

        Args:
            path: of the file.
            columns: names.
            spaced: write some names with the leading space they are published with.
        """
        self._columns = columns
        names = [SPACED.get(name, name) if spaced else name for name in columns]
        self._schema = pa.schema([(name, pa.int64()) for name in names])
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_file(str(path), self._schema, options=options)

    def __enter__(self) -> "FeatherWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(self, rows: dict[str, Int64]) -> None:
        """Add rows; columns that the file does not have are left out."""
        arrays = [pa.array(rows[name]) for name in self._columns]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))


class DayFiles:
    """The files of one day."""

    def __init__(self, root: Path, name: str) -> None:
        """Begin the files of a day.

        Args:
            root: of the data set; `make_folders` has been there.
            name: ISO date.
        """
        self._root = root
        self._name = name
        with ExitStack() as stack:
            self._rows = stack.enter_context(
                FeatherWriter(root / schema.ROWS / f"{name}.feather", ROW_COLUMNS, spaced=False)
            )
            self._shown = stack.enter_context(
                FeatherWriter(root / schema.EXPOSURES / f"{name}.feather", ROW_COLUMNS, spaced=True)
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> "DayFiles":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def write_rows(self, rows: dict[str, Int64], shown: dict[str, Int64]) -> None:
        """Add rows, and those of them that were shown."""
        self._rows.write(rows)
        self._shown.write(shown)

    def write_histories(self, ids_R: Int64, histories_RL: Int64) -> None:
        """Write the histories.

        Args:
            ids_R: request ids.
            histories_RL: [R, L, 10], as `HISTORY_COLUMNS`.
        """
        histories = dict(zip(ids_R.tolist(), histories_RL, strict=True))
        write_pickle(self._root / schema.HISTORIES / f"{self._name}.pkl", histories)

    def write_lists(
        self, ids_R: Int64, lists_RS: dict[str, Int64], lengths_R: dict[str, Int64]
    ) -> None:
        """Write the logged lists; one of length 0 is left out.

        Args:
            ids_R: request ids.
            lists_RS: list to [R, S, 8], as `LIST_COLUMNS`.
            lengths_R: list to the number of its filled slots.
        """
        requests: list[dict[str, Int64]] = [{} for _ in ids_R]
        for name, slots_RS in lists_RS.items():
            for lists, slots, length in zip(
                requests, slots_RS, lengths_R[name].tolist(), strict=True
            ):
                if length:
                    lists[name] = slots[:length]
        logged = dict(zip(ids_R.tolist(), requests, strict=True))
        write_pickle(self._root / schema.LOGGED_LISTS / f"{self._name}.pkl", logged)


def make_folders(root: Path) -> None:
    """Make the folders of a data set."""
    for folder in (schema.ROWS, schema.EXPOSURES, schema.HISTORIES, schema.LOGGED_LISTS):
        (root / folder).mkdir(parents=True)
    (root / schema.COUNTS).parent.mkdir()


def corpus_writer(root: Path) -> FeatherWriter:
    """The file of the videos that were shown."""
    return FeatherWriter(root / schema.CORPUS, VIDEO_COLUMNS, spaced=True)


def write_counts(root: Path, counts: dict[str, int]) -> None:
    """Write how many ids each field has."""
    spaced = {SPACED.get(name, name): count for name, count in counts.items()}
    write_pickle(root / schema.COUNTS, spaced)


def write_pickle(path: Path, content: dict[Any, Any]) -> None:
    """Write a pickle that every Python 3 reads."""
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)
