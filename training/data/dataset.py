"""Prepared dataset: flat arrays on disk, read memory-mapped, that requests are cut out of.

A folder holds `dataset.json`, one `.npy` an array, `items.parquet` and `replay/`; of a dataset made
of events also `logged_*.npy`. It is written beside its final name and renamed.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from training.data.logged import Logged
from training.data.source import DatasetError
from training.features import CategoricalField, ItemIndex

META = "dataset.json"
ITEMS = "items.parquet"
REPLAY = "replay"
LOGGED = "logged_"

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
T = TypeVar("T")


class Split(StrEnum):
    """Periods of time, in order."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Arrays(NamedTuple):
    """Purchases P and requests R, both sorted by user and time; items I; snapshots S."""

    purchase_rows: Int32
    """[P] item row, `OOV` for items that are not eligible."""
    purchase_ts_us: Int64
    """[P]"""
    request_user: Int32
    """[R]"""
    request_ts_us: Int64
    """[R]"""
    request_context: Int32
    """[R, context fields]"""
    history_start: Int64
    """[R] first purchase of the request's user."""
    history_end: Int64
    """[R] one past the last purchase strictly before the request."""
    truth_starts: Int64
    """[R + 1] the request's slice of `truth_rows`."""
    truth_rows: Int32
    """Eligible items bought, each once a request."""
    truth_micros: Int64
    """Their money."""
    user_fields: Int32
    """[users, user fields]"""
    item_fields: Int32
    """[I + 1, item fields]"""
    snapshot_start_us: Int64
    """[S] time from which the snapshot is known."""
    snapshot_price: Float32
    """[S, I + 1] last price seen before, in currency units; 0 where none was."""
    snapshot_popularity: Float32
    """[S, I + 1] purchases in the 28 days before."""


class DatasetMeta(BaseModel):
    """What the arrays mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    currency: str
    validation_start_us: int
    test_start_us: int
    user_fields: tuple[CategoricalField, ...]
    context_fields: tuple[CategoricalField, ...]
    item_fields: tuple[CategoricalField, ...]
    logged: bool = False
    """Made of events: the requests are answers, and what became of them is known."""
    fingerprint: str = ""
    """sha256 of the arrays."""


class PreparedDataset:
    """A dataset ready to train on."""

    def __init__(self, path: Path) -> None:
        """Open a prepared dataset.

        Raises:
            DatasetError: there is none at `path`, or a file of it is missing or damaged.
        """
        if not (path / META).is_file():
            raise DatasetError(f"{path} holds no prepared dataset; make one with `cascade data`")
        self.path = path
        self.meta = _read(path / META, _read_meta)
        self.arrays = Arrays(*(_read(path / f"{name}.npy", _map) for name in Arrays._fields))
        self.logged = None
        if self.meta.logged:
            self.logged = Logged(
                *(_read(path / f"{LOGGED}{name}.npy", _map) for name in Logged._fields)
            )
        self.item_table = _read(path / ITEMS, pq.read_table)
        self.items = ItemIndex(self.item_table["item_id"].to_pylist())

    @property
    def replay(self) -> Path:
        """Folder of the test period's trips, for replay over HTTP."""
        return self.path / REPLAY

    def requests(self, split: Split) -> Int64:
        """Indices of the requests of a period, in time order.

        To learn from, all of them; to measure by, those that led to a purchase.
        """
        ts_us = self.arrays.request_ts_us
        validation, test = self.meta.validation_start_us, self.meta.test_start_us
        chosen = {
            Split.TRAIN: ts_us < validation,
            Split.VALIDATION: (ts_us >= validation) & (ts_us < test),
            Split.TEST: ts_us >= test,
        }[split]
        if split != Split.TRAIN:
            chosen = chosen & (np.diff(self.arrays.truth_starts) > 0)
        indices = np.flatnonzero(chosen)
        return indices[np.argsort(ts_us[indices], kind="stable")]


def _read(file: Path, read: Callable[[Path], T]) -> T:
    try:
        return read(file)
    except (OSError, EOFError, ValueError) as error:
        raise DatasetError(f"{file} is missing or damaged; run `cascade data` again") from error


def _read_meta(file: Path) -> DatasetMeta:
    return DatasetMeta.model_validate_json(file.read_bytes())


def _map(file: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(file, mmap_mode="r")
    return array


def write_prepared(
    out: Path,
    meta: DatasetMeta,
    arrays: Arrays,
    write_rest: Callable[[Path], None],
    logged: Logged | None = None,
) -> PreparedDataset:
    """Write a prepared dataset, replacing an earlier one.

    Raises:
        DatasetError: `out` exists and is no prepared dataset.
    """
    if out.exists() and not (out / META).is_file() and not _is_empty(out):
        raise DatasetError(f"{out} exists and is no prepared dataset; choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        (draft / REPLAY).mkdir(parents=True)
        digest = hashlib.sha256()
        named = arrays._asdict()
        if logged is not None:
            named |= {f"{LOGGED}{name}": array for name, array in logged._asdict().items()}
        for name, array in named.items():
            np.save(draft / f"{name}.npy", array)
            digest.update(np.ascontiguousarray(array).data)
        write_rest(draft)
        update = {"fingerprint": digest.hexdigest(), "logged": logged is not None}
        signed = meta.model_copy(update=update)
        (draft / META).write_text(signed.model_dump_json(indent=1) + "\n")
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return PreparedDataset(out)


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
