"""Feature schema: which fields describe a request, and how raw values become tensors.

The schema is fitted once on training data, saved in the bundle, and used by training and serving
alike; a test compares the tensors of both value by value, so the two cannot drift apart.

Legend: B requests, U user fields, C context columns, L history length, N candidates.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

OOV = 0
"""Index of the out-of-vocabulary row of every field, and row of the unknown item."""

HOUR = "hour"
WEEKDAY = "weekday"
DERIVED_CONTEXT = (HOUR, WEEKDAY)
"""Context columns computed from the request's time; they follow the declared context fields."""

US_PER_DAY = 86_400_000_000
_US_PER_HOUR = 3_600_000_000
_LARGEST_KEY = np.uint64(2**64 - 1)

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]
Time = TypeVar("Time", int, Int64)


class CategoricalField(BaseModel):
    """A named field with a closed vocabulary.

    Value `vocabulary[i]` has index `i + 1`; null and everything unseen has index `OOV`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    vocabulary: tuple[str, ...]

    @property
    def cardinality(self) -> int:
        """Number of embedding rows, the out-of-vocabulary row included."""
        return len(self.vocabulary) + 1

    @cached_property
    def _index(self) -> dict[str, int]:
        return {value: position for position, value in enumerate(self.vocabulary, start=1)}

    def encode(self, value: str | None) -> int:
        """Index of `value`, `OOV` for null and for values training never saw."""
        return OOV if value is None else self._index.get(value, OOV)


class FeatureSchema(BaseModel):
    """Fields of users, request contexts and items, and how much history a request carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: tuple[CategoricalField, ...]
    context: tuple[CategoricalField, ...]
    item: tuple[CategoricalField, ...]
    history_length: int = Field(ge=1, le=100_000)

    @property
    def context_cardinalities(self) -> tuple[int, ...]:
        """Embedding rows of every context column, derived columns last."""
        return (*(field.cardinality for field in self.context), 24, 7)


class RequestTensors(NamedTuple):
    """What every stage of a cascade receives about B requests, in this order."""

    user_BU: Tensor
    """int64 [B, U]: index of each user field."""
    context_BC: Tensor
    """int64 [B, C]: index of each context field, then hour (0 to 23) and weekday (Monday is 0)."""
    history_rows_BL: Tensor
    """int64 [B, L]: item rows the user interacted with, newest first, padded with `OOV`."""
    history_age_days_BL: Tensor
    """float32 [B, L]: days between that interaction and the request, 0 in the padding."""
    history_len_B: Tensor
    """int64 [B]: number of valid history entries."""
    snapshot_B: Tensor
    """int64 [B]: index of the item snapshot that was known at the request's time."""


def encode_fields(
    fields: Sequence[CategoricalField], values: Mapping[str, str | None]
) -> list[int]:
    """Indices of `values` in the order of `fields`; absent fields are `OOV`."""
    return [field.encode(values.get(field.name)) for field in fields]


def derived_context(ts_us: Int64) -> Int64:
    """Hour of day and weekday of UTC timestamps.

    Args:
        ts_us: int64 [B], microseconds since the Unix epoch.

    Returns:
        int64 [B, 2]: hour 0 to 23, weekday 0 (Monday) to 6.
    """
    return np.stack([_hour(ts_us), _weekday(ts_us)], axis=1)


def _hour(ts_us: Time) -> Time:
    return ts_us // _US_PER_HOUR % 24


def _weekday(ts_us: Time) -> Time:
    return (ts_us // US_PER_DAY + 3) % 7  # 1970-01-01 was a Thursday


def pack_history(
    rows: Int32 | Int64, ts_us: Int64, starts: Int64, ends: Int64, request_ts_us: Int64, length: int
) -> tuple[Int64, NDArray[np.float32], Int64]:
    """Cut the newest `length` interactions before each request out of flat arrays.

    Args:
        rows: integer [M], item rows of all users' interactions, each user's in time order.
        ts_us: int64 [M], their times.
        starts: int64 [B], first interaction of each request's user.
        ends: int64 [B], one past the last interaction the request may see.
        request_ts_us: int64 [B], time of each request.
        length: L, history entries a request carries.

    Returns:
        rows [B, L] newest first and padded with `OOV`, age in days [B, L], valid entries [B].
    """
    lengths = np.minimum(ends - starts, length)
    offsets = np.arange(length, dtype=np.int64)
    valid = offsets[None, :] < lengths[:, None]
    positions = np.where(valid, ends[:, None] - 1 - offsets[None, :], 0)
    if len(rows) == 0:
        empty = np.zeros((len(ends), length), dtype=np.int64)
        return empty, empty.astype(np.float32), lengths
    packed_rows = np.where(valid, rows[positions], OOV).astype(np.int64)
    age_us = np.where(valid, request_ts_us[:, None] - ts_us[positions], 0)
    return packed_rows, (age_us / US_PER_DAY).astype(np.float32), lengths


def item_key(item_id: str) -> int:
    """64-bit key under which an item stands in stored histories, whatever the bundle."""
    return xxhash.xxh3_64_intdigest(item_id.encode())


def item_keys(item_ids: Iterable[str]) -> UInt64:
    """Keys of many items, uint64 [len(item_ids)]."""
    return np.fromiter((item_key(item_id) for item_id in item_ids), dtype=np.uint64)


class ItemIndex:
    """Item ids of one bundle: row 0 is the unknown item, row r is `item_ids[r - 1]`."""

    def __init__(self, item_ids: Sequence[str]) -> None:
        """Index `item_ids`.

        Raises:
            ValueError: an id occurs twice.
        """
        self.item_ids = tuple(item_ids)
        self._row = {item_id: row for row, item_id in enumerate(self.item_ids, start=1)}
        if len(self._row) != len(self.item_ids):
            repeated = next(i for n, i in enumerate(self.item_ids) if i in self.item_ids[:n])
            raise ValueError(f"item id {repeated!r} occurs twice; ids must be unique")
        keys = item_keys(self.item_ids)
        order = np.argsort(keys)
        # The largest key ends the list, so that every search finds a place within it.
        self._sorted_keys = np.append(keys[order], _LARGEST_KEY)
        self._sorted_rows: Int64 = np.append(order + 1, OOV)

    def __len__(self) -> int:
        """Number of rows, the unknown item included."""
        return len(self.item_ids) + 1

    def row(self, item_id: str) -> int:
        """Row of an item, `OOV` where this bundle does not know it."""
        return self._row.get(item_id, OOV)

    def rows_of_keys(self, keys: UInt64) -> Int64:
        """Rows of history keys, `OOV` where this bundle does not know the item."""
        places = self._sorted_keys.searchsorted(keys)
        rows: Int64 = self._sorted_rows.take(places)
        rows[self._sorted_keys.take(places) != keys] = OOV
        return rows


class HistoryIndex(Protocol):
    """Finds the items of stored histories."""

    def rows_of_keys(self, keys: UInt64) -> Int64:
        """Rows of history keys, `OOV` where there is no such item."""


class RawRequest(NamedTuple):
    """What is known of a request before it is encoded."""

    user: Mapping[str, str | None]
    """User field values by name."""
    context: Mapping[str, str | None]
    """Context field values by name."""
    history_keys: UInt64
    """uint64 [M], keys of the user's interactions in any order; in the order of time is fastest."""
    history_ts_us: Int64
    """int64 [M], their times."""
    ts_us: int
    """Time of the request, microseconds since the Unix epoch."""


def encode_requests(
    schema: FeatureSchema, items: HistoryIndex, requests: Sequence[RawRequest]
) -> RequestTensors:
    """Tensors of B requests, as serving makes them.

    Interactions at or after a request's time are left out. The snapshot is the first one: a served
    bundle carries only the newest.

    Args:
        schema: fields the bundle was trained with.
        items: item rows of the bundle.
        requests: at least one.
    """
    B, L = len(requests), schema.history_length
    rows_BL = np.zeros((B, L), dtype=np.int64)
    age_days_BL = np.zeros((B, L), dtype=np.float32)
    lengths = []
    for request, rows_L, age_days_L in zip(requests, rows_BL, age_days_BL, strict=True):
        keys, ts_us = _newest_first(request, L)
        rows_L[: len(keys)] = items.rows_of_keys(keys)
        age_days_L[: len(keys)] = (request.ts_us - ts_us) / US_PER_DAY
        lengths.append(len(keys))
    user = [encode_fields(schema.user, request.user) for request in requests]
    context = [
        [*encode_fields(schema.context, r.context), _hour(r.ts_us), _weekday(r.ts_us)]
        for r in requests
    ]
    return RequestTensors(
        user_BU=torch.tensor(user, dtype=torch.int64),
        context_BC=torch.tensor(context, dtype=torch.int64),
        history_rows_BL=torch.from_numpy(rows_BL),
        history_age_days_BL=torch.from_numpy(age_days_BL),
        history_len_B=torch.tensor(lengths, dtype=torch.int64),
        snapshot_B=torch.zeros(B, dtype=torch.int64),
    )


def _newest_first(request: RawRequest, length: int) -> tuple[UInt64, Int64]:
    """Keys and times of the newest interactions before the request, of equal times the last."""
    keys, ts_us = request.history_keys, request.history_ts_us
    if (ts_us[1:] < ts_us[:-1]).any():
        order = np.argsort(ts_us, kind="stable")
        keys, ts_us = keys[order], ts_us[order]
    end = int(ts_us.searchsorted(request.ts_us))
    start = max(0, end - length)
    return keys[start:end][::-1], ts_us[start:end][::-1]


def to_ts_us(moment: datetime) -> int:
    """Microseconds since the Unix epoch; a naive `moment` is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
