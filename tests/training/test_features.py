import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.encoding import encode_request
from tests.training.tables import Source, day
from training.data.dataset import PreparedDataset, Split
from training.data.replay import TRIPS, USERS
from training.data.requests import request_tensors
from training.features import (
    OOV,
    CategoricalField,
    FeatureSchema,
    Int64,
    ItemIndex,
    RequestTensors,
    derived_context,
    encode_fields,
    item_key,
    item_keys,
    pack_history,
    to_ts_us,
)

COLOUR = CategoricalField(name="colour", vocabulary=("red", "blue"))
SIZE = CategoricalField(name="size", vocabulary=("s", "m", "l"))
SCHEMA = FeatureSchema(user=(COLOUR,), context=(SIZE,), item=(), history_length=3)
LENGTHS = (1, 4, 200)
"""Shorter than most histories, about a trip, longer than any."""


def _int64(*values: int) -> Int64:
    return np.array(values, dtype=np.int64)


def _schema(dataset: PreparedDataset, history_length: int) -> FeatureSchema:
    return FeatureSchema(
        user=dataset.meta.user_fields,
        context=dataset.meta.context_fields,
        item=dataset.meta.item_fields,
        history_length=history_length,
    )


def _assert_equal(online: RequestTensors, offline: RequestTensors) -> None:
    for name, mine, theirs in zip(RequestTensors._fields, online, offline, strict=True):
        assert mine.dtype == theirs.dtype, name
        if name != "snapshot_B":  # a served bundle carries the newest alone
            assert mine.tolist() == theirs.tolist(), name


class TestCategoricalField:
    def test_values_follow_the_out_of_vocabulary_row(self) -> None:
        assert [COLOUR.encode(value) for value in ("red", "blue")] == [1, 2]
        assert COLOUR.cardinality == 3

    def test_null_and_unseen_are_out_of_vocabulary(self) -> None:
        assert [COLOUR.encode(value) for value in (None, "", "Red")] == [OOV, OOV, OOV]

    def test_fields_are_encoded_in_their_own_order(self) -> None:
        values = {"size": "l", "colour": "red", "shape": "round"}
        assert encode_fields((COLOUR, SIZE), values) == [1, 3]
        assert encode_fields((COLOUR, SIZE), {"size": "m"}) == [OOV, 2]


def test_schema_survives_json_and_counts_derived_columns() -> None:
    assert FeatureSchema.model_validate_json(SCHEMA.model_dump_json()) == SCHEMA
    assert SCHEMA.context_cardinalities == (4, 24, 7)


@given(st.datetimes(datetime(1600, 1, 1), datetime(2300, 1, 1)))
def test_derived_context_is_what_datetime_says(moment: datetime) -> None:
    derived = derived_context(_int64(to_ts_us(moment)))
    assert derived.tolist() == [[moment.hour, moment.weekday()]]


def test_to_ts_us() -> None:
    assert to_ts_us(datetime(1970, 1, 2, tzinfo=UTC)) == 86_400_000_000
    assert to_ts_us(datetime(1970, 1, 2)) == 86_400_000_000  # taken as UTC
    east = timezone(timedelta(hours=2))
    assert to_ts_us(datetime(1970, 1, 2, 2, 0, 0, 7, tzinfo=east)) == 86_400_000_007
    assert to_ts_us(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1


class TestPackHistory:
    rows = _int64(5, 6, 7, 8, 9)
    ts_us = _int64(day(0), day(1), day(1.5), day(2), day(0))

    def test_newest_first_cut_and_padded(self) -> None:
        packed, ages, lengths = pack_history(
            self.rows,
            self.ts_us,
            starts=_int64(0, 0, 4),
            ends=_int64(4, 1, 4),
            request_ts_us=_int64(day(3), day(1), day(9)),
            length=3,
        )
        assert packed.tolist() == [[8, 7, 6], [5, OOV, OOV], [OOV, OOV, OOV]]
        assert ages.tolist() == [[1.0, 1.5, 2.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
        assert lengths.tolist() == [3, 1, 0]

    def test_types_do_not_depend_on_storage(self) -> None:
        packed, ages, lengths = pack_history(
            self.rows.astype(np.int32), self.ts_us, _int64(0), _int64(2), _int64(day(3)), 3
        )
        assert [packed.dtype.name, ages.dtype.name, lengths.dtype.name] == [
            "int64",
            "float32",
            "int64",
        ]

    def test_no_interactions_at_all(self) -> None:
        packed, ages, lengths = pack_history(
            _int64(), _int64(), _int64(0), _int64(0), _int64(day(3)), 2
        )
        assert packed.tolist() == [[OOV, OOV]]
        assert ages.tolist() == [[0.0, 0.0]]
        assert lengths.tolist() == [0]
        assert [packed.dtype.name, ages.dtype.name] == ["int64", "float32"]


class TestItemIndex:
    index = ItemIndex(["milk", "bread", "tea"])

    def test_rows_start_after_the_unknown_item(self) -> None:
        assert [self.index.row(i) for i in ("milk", "bread", "tea", "rum")] == [1, 2, 3, OOV]
        assert list(self.index.item_ids) == ["milk", "bread", "tea"]
        assert len(self.index) == 4

    def test_keys_find_the_same_rows(self) -> None:
        keys = item_keys(["tea", "rum", "milk", "tea"])
        assert self.index.rows_of_keys(keys).tolist() == [3, OOV, 1, 3]
        assert self.index.rows_of_keys(keys[:0]).tolist() == []

    def test_keys_above_and_below_all_others_are_unknown(self) -> None:
        outside = np.array([0, 2**64 - 1], dtype=np.uint64)
        assert self.index.rows_of_keys(outside).tolist() == [OOV, OOV]

    def test_an_empty_index_knows_nothing(self) -> None:
        assert ItemIndex([]).rows_of_keys(item_keys(["tea"])).tolist() == [OOV]

    def test_keys_never_change(self) -> None:
        """Stored histories hold them: these are XXH3-64 of the UTF-8 bytes."""
        assert item_key("") == 0x2D06800538D394C2
        assert item_keys(["tea"]).tolist() == [item_key("tea")]

    def test_ids_are_unique(self) -> None:
        with pytest.raises(ValueError, match=r"^item id 'tea' occurs twice; ids must be unique$"):
            ItemIndex(["milk", "tea", "tea"])


class TestEncodeRequest:
    items = ItemIndex(["milk", "bread", "tea"])

    def _encode(self, history: list[tuple[str, int]], ts_us: int) -> RequestTensors:
        return encode_request(
            SCHEMA,
            self.items,
            user={"colour": "blue"},
            context={"size": None},
            history_keys=item_keys([item for item, _ in history]),
            history_ts_us=_int64(*(ts for _, ts in history)),
            ts_us=ts_us,
        )

    def test_values(self) -> None:
        history = [("tea", day(2)), ("rum", day(1)), ("milk", day(0))]
        request = self._encode(history, day(4.5))
        assert request.user_BU.tolist() == [[2]]
        assert request.context_BC.tolist() == [[OOV, 12, 4]]  # a Friday at noon
        assert request.history_rows_BL.tolist() == [[3, OOV, 1]]
        assert request.history_age_days_BL.tolist() == [[2.5, 3.5, 4.5]]
        assert request.history_len_B.tolist() == [3]
        assert request.snapshot_B.tolist() == [0]

    def test_interactions_at_or_after_the_request_are_left_out(self) -> None:
        history = [("tea", day(1, -1)), ("milk", day(1)), ("bread", day(1, 1))]
        request = self._encode(history, day(1))
        assert request.history_rows_BL.tolist() == [[3, OOV, OOV]]
        assert request.history_len_B.tolist() == [1]

    def test_a_newcomer_has_an_empty_history(self) -> None:
        request = self._encode([], day(1))
        assert request.history_rows_BL.tolist() == [[OOV, OOV, OOV]]
        assert request.history_len_B.tolist() == [0]

    def test_without_declared_fields_only_derived_context_is_left(self) -> None:
        bare = FeatureSchema(user=(), context=(), item=(), history_length=1)
        request = encode_request(
            bare,
            self.items,
            user={"colour": "red"},
            context={},
            history_keys=item_keys([]),
            history_ts_us=_int64(),
            ts_us=day(0),
        )
        assert request.user_BU.shape == (1, 0)
        assert request.context_BC.tolist() == [[0, 0]]
        assert request.user_BU.dtype == request.context_BC.dtype == torch.int64


class TestOnlineEqualsOffline:
    """Tensors made online from ids equal those cut out of the prepared arrays, value by value."""

    @pytest.mark.parametrize("length", LENGTHS)
    def test_every_request(
        self, random_source: Source, random_dataset: PreparedDataset, length: int
    ) -> None:
        arrays, schema = random_dataset.arrays, _schema(random_dataset, length)
        users = pq.read_table(random_dataset.replay / USERS).to_pylist()
        seen = {"unknown": False, "tie": False, "cut": False, "empty": False}
        for request, ts_us in enumerate(arrays.request_ts_us.tolist()):
            user = users[arrays.request_user[request]]
            # Every interaction of the user, the future's too, as they may lie in a store.
            lines = sorted(
                (line for line in random_source.lines if line.buyer == user["user_id"]),
                key=lambda line: (line.ts_us, line.sku),
            )
            online = encode_request(
                schema,
                random_dataset.items,
                user=json.loads(user["features_json"]),
                context={"store": next(line.store for line in lines if line.ts_us == ts_us)},
                history_keys=item_keys([str(line.sku) for line in lines]),
                history_ts_us=_int64(*(line.ts_us for line in lines)),
                ts_us=ts_us,
            )
            _assert_equal(online, request_tensors(arrays, _int64(request), length))
            past = [line for line in lines if line.ts_us < ts_us]
            times = [line.ts_us for line in past]
            seen["unknown"] |= OOV in [random_dataset.items.row(str(line.sku)) for line in past]
            seen["tie"] |= len(set(times)) < len(times)
            seen["cut"] |= len(past) > length
            seen["empty"] |= not past
        assert seen == {"unknown": True, "tie": True, "cut": length < max(LENGTHS), "empty": True}

    def test_replaying_the_trips_online_makes_the_test_requests(
        self, random_dataset: PreparedDataset
    ) -> None:
        arrays, length = random_dataset.arrays, 30
        schema = _schema(random_dataset, length)
        state = {
            user["user_id"]: user
            for user in pq.read_table(random_dataset.replay / USERS).to_pylist()
        }
        names = sorted(state)
        offline = {
            (names[arrays.request_user[r]], int(arrays.request_ts_us[r])): int(r)
            for r in random_dataset.requests(Split.TEST)
        }
        compared = 0
        for trip in pq.read_table(random_dataset.replay / TRIPS).to_pylist():
            user = state[trip["user_id"]]
            request = offline.pop((trip["user_id"], trip["ts_us"]), None)
            if request is not None:
                online = encode_request(
                    schema,
                    random_dataset.items,
                    user=json.loads(user["features_json"]),
                    context=json.loads(trip["context_json"]),
                    history_keys=item_keys(user["history_item_ids"]),
                    history_ts_us=np.array(user["history_ts_us"], dtype=np.int64),
                    ts_us=trip["ts_us"],
                )
                _assert_equal(online, request_tensors(arrays, _int64(request), length))
                compared += 1
            user["history_item_ids"] += trip["item_ids"]
            user["history_ts_us"] += [trip["ts_us"]] * len(trip["item_ids"])
        assert not offline
        assert compared == len(random_dataset.requests(Split.TEST)) > 10
