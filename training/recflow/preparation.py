"""Preparation: from RecFlow's published files to a prepared log.

Legend: R requests of a day, L history length, S slots, N slots that are filled.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.recflow.log import (
    DAYS,
    HISTORY_LENGTH,
    ITEM_FIELDS,
    ITEMS,
    LIST_LENGTH,
    LISTS,
    META,
    REQUEST_FIELDS,
    Day,
    LogError,
    LogMeta,
)
from training.recflow.preparation_report import DayReport, PreparationReport
from training.recflow.rows import NO_PLACE, DayRows
from training.recflow.schema import REQUEST_COLUMNS, calendar
from training.recflow.source import VIDEO_FIELDS, Source
from training.recflow.vocabulary import ItemTable, Vocabulary

VOCABULARIES = "vocabularies"
"""Folder of what a log was made of: the published id of each row, -1 in row 0."""
SIGHTED = ("user_id", "device_id", "video_id", "author_id")
"""Fields whose ids get rows in the order of first sight; other ids are their row less 1."""
CALENDAR = {"weekday": 8, "hour": 25, "minute": 61}

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


def prepare(
    source: Path,
    out: Path,
    *,
    name: str | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> PreparationReport:
    """Write a prepared log, replacing an earlier one.

    Days are read one after the other, and what is written about one does not depend on those that
    follow.

    Args:
        source: folder as published, or as `generate` writes it.
        out: folder of the log.
        name: of the log; that of `out` if absent.
        progress: called with what is being done, how many days are done, and of how many.

    Raises:
        LogError: the source is wrong, or `out` holds something that is no prepared log.
    """
    published = Source(source)
    if out.exists() and not (out / META).is_file() and not _is_empty(out):
        raise LogError(f"{out} exists and is no prepared log; choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        (draft / VOCABULARIES).mkdir(parents=True)
        preparation = _Preparation(published, draft)
        progress("prepare", 0, len(published.days))
        for done, day in enumerate(published.days, start=1):
            preparation.add(day)
            progress("prepare", done, len(published.days))
        report = preparation.finish(name or out.name)
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return report


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


class _Preparation:
    """What one day hands over to the next."""

    def __init__(self, source: Source, draft: Path) -> None:
        self._source = source
        self._draft = draft
        self._vocabularies = {name: Vocabulary(source.counts[name]) for name in SIGHTED}
        self._items = ItemTable(draft, source.counts["video_id"] + 1)
        self._digest = hashlib.sha256()
        self._reports: list[DayReport] = []
        self._item_ends: list[int] = []
        self._ends: dict[str, list[int]] = {name: [] for name in SIGHTED}

    def add(self, name: str) -> None:
        """Write a day."""
        rows = self._source.rows(name)
        request_ids_R = rows.requests_RC[:, 0]
        folder = self._draft / DAYS / name
        folder.mkdir(parents=True)
        day = _create_day(folder, len(request_ids_R))
        day.request_ids[:] = request_ids_R
        day.timestamps_ms[:] = rows.requests_RC[:, 1]
        day.fields[:] = self._request_fields(rows.requests_RC)
        for slots in self._source.histories(name, request_ids_R):
            part = day.history[slots.first_request :][: len(slots.filled_RS)]
            part[slots.filled_RS] = self._item_rows(slots.videos_NF)
        short, missing = self._add_lists(name, rows, day)
        for array in day:
            self._digest.update(array.data)
        self._reports.append(
            DayReport(
                day=name,
                requests=len(request_ids_R),
                short_lists=short,
                missing_ranks=missing,
                without_history=int((day.history[:, -1] == 0).sum()),
                new_items=len(self._items) - (self._item_ends or [1])[-1],
                exposures=rows.exposures,
            )
        )
        self._item_ends.append(len(self._items))
        for field, vocabulary in self._vocabularies.items():
            self._ends[field].append(len(vocabulary))

    def finish(self, name: str) -> PreparationReport:
        """Write what all days share."""
        counts = self._source.counts
        self._items.write(self._draft / ITEMS)
        self._digest.update(np.load(self._draft / ITEMS, mmap_mode="r").data)
        sizes = dict(self._ends)
        for field in dict.fromkeys((*REQUEST_FIELDS, *ITEM_FIELDS)):
            if field in CALENDAR:
                sizes[field] = [CALENDAR[field]] * len(self._reports)
                continue
            if field not in SIGHTED:
                sizes[field] = [counts[field] + 1] * len(self._reports)
            ids = (
                self._vocabularies[field].ids if field in SIGHTED else np.arange(-1, counts[field])
            )
            np.save(self._draft / VOCABULARIES / f"{field}.npy", ids)
            self._digest.update(ids.data)
        meta = LogMeta(
            name=name,
            days=tuple(report.day for report in self._reports),
            requests=tuple(report.requests for report in self._reports),
            items=tuple(self._item_ends),
            vocabularies={field: tuple(ends) for field, ends in sizes.items()},
            fingerprint=self._digest.hexdigest(),
        )
        (self._draft / META).write_text(meta.model_dump_json(indent=1) + "\n")
        return PreparationReport(
            days=tuple(self._reports),
            items=len(self._items) - 1,
            seen={field: len(rows) - 1 for field, rows in self._vocabularies.items()},
            published={field: counts[field] for field in SIGHTED},
        )

    def _add_lists(
        self, name: str, rows: DayRows, day: Day
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Write candidates and ranks; counts short lists and unknown ranks."""
        short, missing = dict.fromkeys(LISTS, 0), dict.fromkeys(rows.places, 0)
        for listed, slots in self._source.lists(name, day.request_ids):
            first = LISTS.index(listed) * LIST_LENGTH
            part = (
                slice(slots.first_request, slots.first_request + len(slots.filled_RS)),
                slice(first, first + LIST_LENGTH),
            )
            day.candidates[part][slots.filled_RS] = self._item_rows(slots.videos_NF)
            short[listed] += int((~slots.filled_RS[:, -1]).sum())
            if listed in rows.places:
                request_ids_N = np.repeat(day.request_ids[part[0]], slots.filled_RS.sum(axis=1))
                places_N = rows.places[listed].of(request_ids_N, slots.videos_NF[:, 0])
                day.ranks[part][slots.filled_RS] = places_N
                missing[listed] += int((places_N == NO_PLACE).sum())
        return short, missing

    def _request_fields(self, requests_RC: Int64) -> Int32:
        columns = dict(zip(REQUEST_COLUMNS, requests_RC.T, strict=True))
        return self._fields(REQUEST_FIELDS, columns, columns["request_timestamp"] // 1000)

    def _item_rows(self, videos_NF: Int64) -> Int32:
        columns = dict(zip(VIDEO_FIELDS, videos_NF.T, strict=True))
        return self._items.rows(self._fields(ITEM_FIELDS, columns, columns["upload_timestamp"]))

    def _fields(
        self, names: tuple[str, ...], columns: dict[str, Int64], timestamps_s: Int64
    ) -> Int32:
        known = columns | dict(
            zip(CALENDAR, np.moveaxis(calendar(timestamps_s), -1, 0), strict=True)
        )
        fields = np.empty((len(timestamps_s), len(names)), np.int32)
        for place, name in enumerate(names):
            if name in SIGHTED:
                fields[:, place] = self._vocabularies[name].rows(known[name])
            else:
                fields[:, place] = known[name] + (name not in CALENDAR)
        return fields


def _create_day(folder: Path, requests: int) -> Day:
    """A day on disk in which nothing is filled."""
    slots = len(LISTS) * LIST_LENGTH
    kinds: dict[str, tuple[type[Any], tuple[int, ...]]] = {
        "request_ids": (np.int64, ()),
        "timestamps_ms": (np.int64, ()),
        "fields": (np.int32, (len(REQUEST_FIELDS),)),
        "history": (np.int32, (HISTORY_LENGTH,)),
        "candidates": (np.int32, (slots,)),
        "ranks": (np.uint8, (slots,)),
    }
    columns = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=kind, shape=(requests, *shape)
        )
        for name, (kind, shape) in kinds.items()
    }
    columns["ranks"][:] = NO_PLACE
    return Day(**columns)
