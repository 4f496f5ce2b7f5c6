"""Rows: a day's feather of everything a stage logged, read batch by batch.

Legend: R requests of a day, K rows that have a place.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.recflow.log import LogError
from training.recflow.schema import (
    COUNTS,
    FLAGS,
    LATEST_S,
    PLACES,
    REQUEST_COLUMNS,
    field_name,
)

NO_PLACE = 255
"""Where a rank is unknown; all known ones are below."""
COMPACTION_ROWS = 2_000_000
COLUMNS = (*REQUEST_COLUMNS, "video_id", *FLAGS, *PLACES.values())
"""What is read."""

Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]
Columns = dict[str, Int64]


class Places(NamedTuple):
    """Where the logging cascade put videos."""

    keys_K: Int64
    """Ascending: request id times the number of videos, plus video id."""
    places_K: UInt8
    videos: int
    """Number of videos."""

    def of(self, request_ids_N: Int64, video_ids_N: Int64) -> UInt8:
        """Places of videos in their requests, `NO_PLACE` where there is no row."""
        keys_N = request_ids_N * self.videos + video_ids_N
        places_N = np.full(len(keys_N), NO_PLACE, np.uint8)
        if len(self.keys_K):
            found_N = np.minimum(np.searchsorted(self.keys_K, keys_N), len(self.keys_K) - 1)
            known_N = self.keys_K[found_N] == keys_N
            places_N[known_N] = self.places_K[found_N[known_N]]
        return places_N


class DayRows(NamedTuple):
    """What the rows of a day say."""

    requests_RC: Int64
    """[R, 7] as `REQUEST_COLUMNS`, ordered by time and id."""
    places: dict[str, Places]
    """For each list of `PLACES`."""
    exposures: int


def read_rows(path: Path, counts: dict[str, int]) -> DayRows:
    """Read a day's rows.

    Args:
        path: of the feather.
        counts: number of ids of each field.

    Raises:
        LogError: the file or a row of it is wrong.
    """
    requests = _Requests(path)
    places: dict[str, list[tuple[Int64, Int64]]] = {name: [] for name in PLACES}
    exposures = 0
    for first_row, columns in _batches(path):
        _check(path, first_row, columns, counts)
        requests.add(first_row, columns)
        exposures += int(columns["realshow"].sum())
        for name, column in PLACES.items():
            there = columns[name] == 1
            keys = columns["request_id"][there] * counts["video_id"] + columns["video_id"][there]
            places[name].append((keys, columns[column][there]))
    tables = {name: _table(pairs, counts["video_id"]) for name, pairs in places.items()}
    return DayRows(requests.sorted(), tables, exposures)


def _batches(path: Path) -> Iterator[tuple[int, Columns]]:
    """Batches of a feather, each with the number of rows before it."""
    if path.stat().st_size == 0:
        raise LogError(f"{path} is empty, a placeholder; download the data itself")
    try:
        with pa.memory_map(str(path)) as file:
            names = [field_name(name) for name in pa.ipc.open_file(file).schema.names]
            options = pa.ipc.IpcReadOptions(included_fields=_wanted(path, names))
            reader = pa.ipc.open_file(file, options=options)
            first_row = 0
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                yield first_row, _integers(path, first_row, batch)
                first_row += batch.num_rows
    except (OSError, pa.ArrowInvalid) as error:
        raise LogError(
            f"{path} cannot be read ({error}); it is cut off, damaged or no feather, download it "
            "again"
        ) from error


def _wanted(path: Path, names: list[str]) -> list[int]:
    for name in COLUMNS:
        if names.count(name) != 1:
            raise LogError(
                f"{path} has {names.count(name)} columns {name!r}, not 1; its columns are "
                f"{', '.join(names)}"
            )
    return sorted(names.index(name) for name in COLUMNS)


def _integers(path: Path, first_row: int, batch: pa.RecordBatch) -> Columns:
    columns = {}
    for published, values in zip(batch.schema.names, batch.columns, strict=True):
        name = field_name(published)
        if not pa.types.is_integer(values.type):
            raise LogError(f"{path}: column {name!r} has type {values.type}; it must be an integer")
        if values.null_count:
            row = first_row + int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            raise LogError(f"{path}, row {row}: {name} is missing; remove the row or fill it")
        columns[name] = values.cast(pa.int64()).to_numpy()
    return columns


def _check(path: Path, first_row: int, columns: Columns, counts: dict[str, int]) -> None:
    def where(place: int) -> str:
        return f"{path}, row {first_row + place}"

    limits = {name: (0, counts[name] - 1) for name in COLUMNS if name in counts}
    limits |= dict.fromkeys(FLAGS, (0, 1))
    # Seconds where milliseconds belong are below, microseconds above.
    limits["request_timestamp"] = (10**11, LATEST_S * 1000 - 1)
    for name, (least, most) in limits.items():
        check_range(where, name, columns[name], least, most)
    for flag, name in PLACES.items():
        there = np.where(columns[flag] == 1, columns[name], 0)
        check_range(where, name, there, 0, NO_PLACE - 1)


def check_range(
    where: Callable[[int], str], name: str, values: Int64, least: int, most: int
) -> None:
    """Refuse values out of their range.

    Args:
        where: says where the value at a place comes from.
        name: of the values.
        values: in any number.
        least: that is allowed.
        most: that is allowed.

    Raises:
        LogError: one is out of range.
    """
    if len(values) and (values.min() < least or values.max() > most):
        place = int(np.argmax((values < least) | (values > most)))
        raise LogError(
            f"{where(place)}: {name} == {values[place]} must be in [{least}, {most}]; the file is "
            f"damaged, or {COUNTS} belongs to other data"
        )


def _table(pairs: list[tuple[Int64, Int64]], videos: int) -> Places:
    keys = np.concatenate([keys for keys, _ in pairs]) if pairs else np.zeros(0, np.int64)
    places = np.concatenate([places for _, places in pairs]) if pairs else np.zeros(0, np.int64)
    # Where a video has several rows in a request, the first one counts, as in the published code.
    keys_K, first_K = np.unique(keys, return_index=True)
    return Places(keys_K, places[first_K].astype(np.uint8), videos)


class _Requests:
    """Distinct requests of the rows so far, which must agree on everything."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts = [np.zeros((0, len(REQUEST_COLUMNS) + 1), np.int64)]
        self._pending = 0

    def add(self, first_row: int, columns: Columns) -> None:
        rows = np.stack([columns[name] for name in REQUEST_COLUMNS], axis=1)
        changes = np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1)) + 1
        starts = np.concatenate([[0], changes])[: len(rows)]
        self._parts.append(np.column_stack([rows[starts], first_row + starts]))
        self._pending += len(starts)
        if self._pending > COMPACTION_ROWS:
            self._compact()

    def sorted(self) -> Int64:
        """Ordered by time and id."""
        self._compact()
        requests = self._parts[0][:, :-1]
        if len(requests) == 0:
            raise LogError(f"{self._path} has no rows; remove the day's files")
        return requests[np.lexsort((requests[:, 0], requests[:, 1]))]

    def _compact(self) -> None:
        rows = np.concatenate(self._parts)
        _, first, inverse = np.unique(rows[:, 0], return_index=True, return_inverse=True)
        differ = rows[:, :-1] != rows[first[inverse], :-1]
        if differ.any():
            place, column = np.argwhere(differ)[0]
            raise LogError(
                f"{self._path}, row {rows[place, -1]}: {REQUEST_COLUMNS[column]} == "
                f"{rows[place, column]} of request {rows[place, 0]} differs from "
                f"{rows[first[inverse][place], column]} in row {rows[first[inverse][place], -1]}; "
                "all rows of a request must agree"
            )
        self._parts = [rows[first]]
        self._pending = 0
