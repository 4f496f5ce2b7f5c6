"""Source: RecFlow's published files, read and checked day by day.

Legend: R requests of a day, S slots of a list, N slots that are filled.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.recflow import schema
from training.recflow.log import HISTORY_LENGTH, LIST_LENGTH, LISTS, LogError
from training.recflow.rows import DayRows, check_range, read_rows
from training.recflow.schema import COUNTED, HISTORY_COLUMNS, LATEST_S, LIST_COLUMNS, field_name
from training.recflow.unpickling import load_pickle

CHUNK_REQUESTS = 8192
VIDEO_FIELDS = (
    "video_id", "author_id", "category_level_two", "category_level_one", "upload_type",
    "upload_timestamp",
)  # fmt: skip
"""What is known of a video wherever it is listed."""
LARGEST_COUNT = 2**31 - 2
HISTORY_SHAPE = (HISTORY_LENGTH, len(HISTORY_COLUMNS))
NO_SLOTS = np.zeros((0, len(LIST_COLUMNS)), np.int64)

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


class Slots(NamedTuple):
    """Filled slots of one list, or of the histories, of some requests that follow each other."""

    first_request: int
    """Place of the first of these requests in its day."""
    filled_RS: Bool
    videos_NF: Int64
    """[N, 6] as `VIDEO_FIELDS`, request by request."""


class Source:
    """A folder as published."""

    def __init__(self, root: Path) -> None:
        """Look at the files and the numbers of ids.

        Raises:
            LogError: a file is missing, or the numbers cannot be read.
        """
        self.root = root
        self.days = _days(root)
        self.counts = _counts(root / schema.COUNTS)

    def rows(self, day: str) -> DayRows:
        """What the rows of a day say.

        Raises:
            LogError: the file or a row of it is wrong.
        """
        return read_rows(self.root / schema.ROWS / f"{day}.feather", self.counts)

    def histories(self, day: str, request_ids_R: Int64) -> Iterator[Slots]:
        """What the users of requests watched before, `CHUNK_REQUESTS` at a time.

        Raises:
            LogError: the file or a history is wrong.
        """
        path = self.root / schema.HISTORIES / f"{day}.pkl"
        stored = _requests(path)
        order = [HISTORY_COLUMNS.index(name) for name in VIDEO_FIELDS]
        for first in range(0, len(request_ids_R), CHUNK_REQUESTS):
            ids = request_ids_R[first : first + CHUNK_REQUESTS]
            arrays = [_history(path, stored, request) for request in ids.tolist()]
            histories = np.concatenate(arrays).reshape(len(ids), HISTORY_LENGTH, -1)
            filled_RS = histories[:, :, HISTORY_COLUMNS.index("request_timestamp")] > 0
            _check_order(path, ids, filled_RS)
            videos_NF = histories[filled_RS][:, order]
            self._check(f"{path}", ids, filled_RS, videos_NF)
            yield Slots(first, filled_RS, videos_NF)

    def lists(self, day: str, request_ids_R: Int64) -> Iterator[tuple[str, Slots]]:
        """The first `LIST_LENGTH` of each of `LISTS`, `CHUNK_REQUESTS` at a time.

        Raises:
            LogError: the file or a list is wrong.
        """
        path = self.root / schema.LOGGED_LISTS / f"{day}.pkl"
        stored = _requests(path)
        order = [LIST_COLUMNS.index(name) for name in VIDEO_FIELDS]
        for first in range(0, len(request_ids_R), CHUNK_REQUESTS):
            ids = request_ids_R[first : first + CHUNK_REQUESTS]
            requests = [_lists(path, stored, request) for request in ids.tolist()]
            for name in LISTS:
                arrays = [
                    _list(path, request, name, lists.get(name))
                    for request, lists in zip(ids.tolist(), requests, strict=True)
                ]
                lengths_R = np.fromiter(map(len, arrays), np.int64, len(arrays))
                filled_RS = np.arange(LIST_LENGTH) < lengths_R[:, None]
                videos_NF = np.concatenate(arrays)[:, order]
                self._check(f"{path}, {name}", ids, filled_RS, videos_NF)
                yield name, Slots(first, filled_RS, videos_NF)

    def _check(self, file: str, ids_R: Int64, filled_RS: Bool, videos_NF: Int64) -> None:
        def where(place: int) -> str:
            return f"{file}, request {ids_R[np.nonzero(filled_RS)[0][place]]}"

        for values_N, name in zip(videos_NF.T, VIDEO_FIELDS, strict=True):
            check_range(where, name, values_N, 0, self.counts.get(name, LATEST_S) - 1)


def _days(root: Path) -> tuple[str, ...]:
    folders = {schema.ROWS: "feather", schema.HISTORIES: "pkl", schema.LOGGED_LISTS: "pkl"}
    found = {
        name: {
            file.stem for file in (root / name).glob(f"*.{kind}") if schema.DAY.fullmatch(file.stem)
        }
        for name, kind in folders.items()
    }
    days = sorted(set().union(*found.values()))
    if not days:
        raise LogError(
            f"{root} holds no RecFlow data: there is no {schema.ROWS}/DAY.feather; give the folder "
            "that the publisher calls data"
        )
    for day in days:
        for name, kind in folders.items():
            if day not in found[name]:
                raise LogError(
                    f"{root / name / day}.{kind} is missing, while other files of that day are "
                    "there; download it, or remove the others"
                )
    return tuple(days)


def _counts(path: Path) -> dict[str, int]:
    stored = load_pickle(path)
    if not isinstance(stored, dict):
        raise LogError(f"{path} holds a {type(stored).__name__}; it must be a dictionary")
    counts = {field_name(str(name)): count for name, count in stored.items()}
    for name in COUNTED:
        if name not in counts:
            raise LogError(f"{path} has no {name!r}; it has {', '.join(counts)}")
        count = counts[name]
        if not isinstance(count, int | np.integer) or not 1 <= count <= LARGEST_COUNT:
            raise LogError(
                f"{path}: {name} == {count!r} must be an integer in [1, {LARGEST_COUNT}]"
            )
    return {name: int(counts[name]) for name in COUNTED}


def _requests(path: Path) -> dict[int, Any]:
    if path.stat().st_size == 0:
        raise LogError(f"{path} is empty, a placeholder; download the data itself")
    stored = load_pickle(path)
    if not isinstance(stored, dict):
        raise LogError(f"{path} holds a {type(stored).__name__}; it must be a dictionary")
    return stored


def _of_request(path: Path, stored: dict[int, Any], request: int) -> object:
    found: object = stored.get(request)
    if found is None:
        raise LogError(
            f"{path} has no request {request}, which {schema.ROWS} has; download both again"
        )
    return found


def _history(path: Path, stored: dict[int, Any], request: int) -> NDArray[Any]:
    history = _of_request(path, stored, request)
    if not isinstance(history, np.ndarray) or history.shape != HISTORY_SHAPE:
        raise LogError(
            f"{path}, request {request}: a history is {_shape(history)}; it must be an array of "
            f"{list(HISTORY_SHAPE)}"
        )
    return _integers(path, request, "a history", history)


def _check_order(path: Path, ids_R: Int64, filled_RS: Bool) -> None:
    wrong_R = (filled_RS[:, :-1] & ~filled_RS[:, 1:]).any(axis=1)
    if wrong_R.any():
        raise LogError(
            f"{path}, request {ids_R[np.argmax(wrong_R)]}: padding (request_timestamp 0) follows a "
            "behaviour; it must come first"
        )


def _lists(path: Path, stored: dict[int, Any], request: int) -> dict[str, Any]:
    lists = _of_request(path, stored, request)
    if not isinstance(lists, dict):
        raise LogError(
            f"{path}, request {request} holds {_shape(lists)}; it must be a dictionary of lists"
        )
    return lists


def _list(path: Path, request: int, name: str, found: object) -> NDArray[Any]:
    # A default dictionary of the publisher's gives () for a list that was not logged.
    if found is None or (isinstance(found, list | tuple) and not found):
        return NO_SLOTS
    if not isinstance(found, np.ndarray) or found.shape[1:] != NO_SLOTS.shape[1:]:
        raise LogError(
            f"{path}, request {request}: {name} is {_shape(found)}; it must be an array of "
            f"[n, {len(LIST_COLUMNS)}]"
        )
    return _integers(path, request, name, found[:LIST_LENGTH])


def _integers(path: Path, request: int, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "iu":
        raise LogError(
            f"{path}, request {request}: {name} is of {array.dtype}; it must be of integers"
        )
    return array


def _shape(found: object) -> str:
    if isinstance(found, np.ndarray):
        return f"an array of {list(found.shape)}"
    return f"a {type(found).__name__}"
