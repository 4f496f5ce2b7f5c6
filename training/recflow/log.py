"""Prepared log: RecFlow as memory-mapped columns, one folder a day.

A log holds `log.json`, `items.npy` and `days/DAY/*.npy`. Items, videos, authors, users and devices
have rows in the order of first sight, day by day, so what was known at the end of a day is a prefix
of every table. Row 0 is padding and whatever is unknown.

Legend: R requests of a day, I items, L history length, S slots.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

META = "log.json"
ITEMS = "items.npy"
DAYS = "days"

LISTS = ("rerank_pos", "rerank_neg", "rank_pos", "rank_neg", "coarse_neg", "prerank_neg")
"""Lists of candidates in the order in which their slots are stored."""
LIST_LENGTH = 10
"""Slots a list has."""
HISTORY_LENGTH = 50

REQUEST_FIELDS = (
    "weekday", "hour", "minute", "user_id", "device_id", "gender", "age", "province",
)  # fmt: skip
ITEM_FIELDS = (
    "video_id", "author_id", "category_level_two", "category_level_one", "upload_type",
    "weekday", "hour", "minute",
)  # fmt: skip
"""The last three are those of the upload."""
HISTORY_FIELDS = ITEM_FIELDS[:5]
"""What is known of the items of a history."""

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]


class LogError(ValueError):
    """A RecFlow log that cannot be used; the message names file, row, rule and remedy."""


class Day(NamedTuple):
    """One day's requests, memory-mapped."""

    request_ids: Int64
    """[R]"""
    timestamps_ms: Int64
    """[R]"""
    fields: Int32
    """[R, 8] as `REQUEST_FIELDS`: weekday 1 to 7 (Monday 1), hour 1 to 24, minute 1 to 60, and rows
    of the vocabularies; 0 is unknown."""
    history: Int32
    """[R, L] item rows, padding first, the newest last."""
    candidates: Int32
    """[R, S] item rows, `LIST_LENGTH` slots for each of `LISTS`; 0 in an empty slot. A list fills
    its slots from the left."""
    ranks: UInt8
    """[R, S] the place the logging cascade gave: rerank_index for rerank_pos, rank_index for
    rank_pos, from 0; 255 where there is none."""


class LogMeta(BaseModel):
    """What a prepared log holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    days: tuple[str, ...]
    """ISO dates, ascending."""
    requests: tuple[int, ...]
    """Of each day."""
    items: tuple[int, ...]
    """Rows of the item table at the end of each day, row 0 included."""
    vocabularies: dict[str, tuple[int, ...]]
    """For each field, rows at the end of each day, row 0 included. Weekday, hour and minute are
    shared by requests and uploads; all days have the same number for fields of fixed size."""
    fingerprint: str
    """sha256 of the arrays."""


class PreparedLog:
    """A log ready to train on."""

    def __init__(self, path: Path) -> None:
        """Open a prepared log.

        Raises:
            LogError: there is none at `path`, or a file of it is missing or damaged.
        """
        if not (path / META).is_file():
            raise LogError(f"{path} holds no prepared log; make one with `cascade data recflow`")
        self.path = path
        try:
            self.meta = LogMeta.model_validate_json((path / META).read_bytes())
        except ValidationError as error:
            raise LogError(f"{path / META} is damaged; run `cascade data recflow` again") from error
        self.items_IF: Int32 = _map(path / ITEMS)
        """[I, 8] as `ITEM_FIELDS`; row 0 is zeros."""

    def day(self, name: str) -> Day:
        """Requests of a day.

        Raises:
            LogError: the log has no such day, or a file of it is missing or damaged.
        """
        if name not in self.meta.days:
            first, last = self.meta.days[0], self.meta.days[-1]
            raise LogError(f"{self.path} has no day {name!r}; it has {first} to {last}")
        folder = self.path / DAYS / name
        day = Day(*(_map(folder / f"{column}.npy") for column in Day._fields))
        lengths = {column: len(array) for column, array in day._asdict().items()}
        expected = self.meta.requests[self.meta.days.index(name)]
        for column, length in lengths.items():
            if length != expected:
                raise LogError(
                    f"{folder / column}.npy has {length} rows, {META} says {expected}; run "
                    "`cascade data recflow` again"
                )
        return day


def _map(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r")
    except (OSError, EOFError, ValueError) as error:
        raise LogError(f"{file} is missing or damaged; run `cascade data recflow` again") from error
    return array
