"""Requests see nothing of their own time or later: whatever the future becomes, they stay equal."""

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from tests.encoding import encode_request
from tests.training.tables import Line, Source
from training.data.dataset import Arrays, PreparedDataset, Split
from training.data.requests import as_newcomers, request_tensors
from training.data.transactions import prepare
from training.features import OOV, US_PER_DAY, FeatureSchema

LENGTH = 12


class Seen(NamedTuple):
    """All that a cascade is told about a request, in names instead of rows."""

    user: tuple[str | None, ...]
    context: tuple[str | None, ...]
    hour_and_weekday: tuple[int, int]
    history: tuple[tuple[str | None, float], ...]
    price: dict[str, float]
    popularity: dict[str, float]


def _seen(dataset: PreparedDataset, arrays: Arrays, request: int) -> Seen:
    meta, items = dataset.meta, dataset.items
    tensors = request_tensors(arrays, np.array([request]), LENGTH)
    user, context = tensors.user_BU[0].tolist(), tensors.context_BC[0].tolist()
    length = int(tensors.history_len_B)
    rows = tensors.history_rows_BL[0].tolist()
    assert rows[length:] == [OOV] * (LENGTH - length)
    snapshot = int(tensors.snapshot_B)
    values = [arrays.snapshot_price[snapshot], arrays.snapshot_popularity[snapshot]]
    price, popularity = (
        dict(zip(items.item_ids, line[1:].tolist(), strict=True)) for line in values
    )
    return Seen(
        user=tuple(
            field.vocabulary[index - 1] if index else None
            for field, index in zip(meta.user_fields, user, strict=True)
        ),
        context=tuple(
            field.vocabulary[index - 1] if index else None
            for field, index in zip(meta.context_fields, context[:-2], strict=True)
        ),
        hour_and_weekday=(context[-2], context[-1]),
        history=tuple(
            (items.item_ids[row - 1] if row else None, age)
            for row, age in zip(
                rows[:length], tensors.history_age_days_BL[0, :length].tolist(), strict=True
            )
        ),
        price=price,
        popularity=popularity,
    )


def _other_future(
    source: Source, dataset: PreparedDataset, user: str, now_us: int, seed: int
) -> Source:
    """The same world up to `now_us`; from then on other items, prices and stores are bought.

    Inside the training period the items are shuffled among the lines, not drawn anew: which items
    are eligible is fitted on that period, for the requests early in it too.
    """
    draw = random.Random(seed)
    training = [
        line for line in source.lines if now_us <= line.ts_us < dataset.meta.validation_start_us
    ]
    shuffled = [(line.sku, line.store) for line in training]
    draw.shuffle(shuffled)
    known = list(dataset.items.item_ids)
    lines: list[Line] = []
    for line in source.lines:
        if line.ts_us < now_us:
            lines.append(line)
            continue
        if line.ts_us < dataset.meta.validation_start_us:
            sku, store = shuffled.pop()
        else:
            sku, store = draw.choice(known), draw.choice(["s0", "s1", "s77"])
        if (line.buyer, line.ts_us) == (user, now_us):
            store = line.store  # where the user stands is known when the request comes
        price = f"{draw.randint(3_000, 9_000)}.00"
        lines.append(line._replace(sku=sku, price=price, paid=price, store=store))
    return Source(
        lines, users=source.users, items=source.items, min_item_count=source.min_item_count
    )


def _leaky_history(arrays: Arrays) -> Arrays:
    return arrays._replace(history_end=arrays.history_end + 1)


def _leaky_snapshot(arrays: Arrays) -> Arrays:
    return arrays._replace(snapshot_start_us=arrays.snapshot_start_us - 7 * US_PER_DAY)


@pytest.fixture(scope="module", params=list(Split))
def worlds(
    request: pytest.FixtureRequest,
    random_source: Source,
    random_dataset: PreparedDataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[int, PreparedDataset]]:
    """Requests of one period, each with a world that has another future."""
    arrays = random_dataset.arrays
    requests = random_dataset.requests(request.param)
    names = random_source.users["who's"]
    worlds = []
    for chosen in requests[np.linspace(0, len(requests) - 1, 5).astype(int)[1:-1]]:
        user = names[arrays.request_user[chosen]]
        now_us = int(arrays.request_ts_us[chosen])
        other = _other_future(random_source, random_dataset, user, now_us, seed=int(chosen))
        folder: Path = tmp_path_factory.mktemp("future")
        worlds.append((int(chosen), prepare(other.write(folder / "source"), folder / "out")))
    return worlds


def _twin(dataset: PreparedDataset, other: PreparedDataset, request: int) -> int:
    """The request of the same user at the same time in another world."""
    arrays, theirs = dataset.arrays, other.arrays
    (twin,) = np.flatnonzero(
        (theirs.request_user == arrays.request_user[request])
        & (theirs.request_ts_us == arrays.request_ts_us[request])
    )
    return int(twin)


def test_the_future_changes_nothing(
    random_dataset: PreparedDataset, worlds: list[tuple[int, PreparedDataset]]
) -> None:
    for request, other in worlds:
        twin = _twin(random_dataset, other, request)
        seen = _seen(random_dataset, random_dataset.arrays, request)
        assert _seen(other, other.arrays, twin) == seen
        assert len(seen.history) == LENGTH
        # The future is another one indeed: the very purchase is.
        truths = [
            arrays.truth_micros[arrays.truth_starts[r] : arrays.truth_starts[r + 1]].tolist()
            for arrays, r in ((random_dataset.arrays, request), (other.arrays, twin))
        ]
        assert truths[0] != truths[1]


def test_the_check_sees_a_history_that_leaks(
    random_dataset: PreparedDataset, worlds: list[tuple[int, PreparedDataset]]
) -> None:
    differences = [
        _seen(random_dataset, _leaky_history(random_dataset.arrays), request).history
        != _seen(other, _leaky_history(other.arrays), _twin(random_dataset, other, request)).history
        for request, other in worlds
    ]
    assert any(differences)


@pytest.mark.parametrize("worlds", [Split.TRAIN, Split.VALIDATION], indirect=True)
def test_the_check_sees_a_snapshot_that_leaks(
    random_dataset: PreparedDataset, worlds: list[tuple[int, PreparedDataset]]
) -> None:
    """In the test period there is no later snapshot to leak from."""
    for request, other in worlds:
        seen = _seen(random_dataset, _leaky_snapshot(random_dataset.arrays), request)
        twin = _twin(random_dataset, other, request)
        assert _seen(other, _leaky_snapshot(other.arrays), twin).price != seen.price


def test_snapshots_are_known_when_the_request_comes(random_dataset: PreparedDataset) -> None:
    arrays = random_dataset.arrays
    everything = np.arange(len(arrays.request_ts_us))
    snapshots = request_tensors(arrays, everything, LENGTH).snapshot_B.numpy()
    starts = arrays.snapshot_start_us
    assert (starts[snapshots] <= arrays.request_ts_us).all()
    later = np.append(starts, np.iinfo(np.int64).max)[snapshots + 1]
    assert (later > arrays.request_ts_us).all()
    assert set(snapshots.tolist()) == set(range(len(starts)))


def test_a_snapshot_is_known_from_its_very_start(corner: PreparedDataset) -> None:
    """The first requests of validation and test come at the microsecond a snapshot starts."""
    arrays = corner.arrays
    snapshots = request_tensors(arrays, np.arange(7), 3).snapshot_B.tolist()
    assert snapshots == [0, 2, 3, 3, 4, 1, 4]


def test_a_batch_is_its_requests_one_by_one(random_dataset: PreparedDataset) -> None:
    arrays = random_dataset.arrays
    requests = np.array([7, 3, 90, 3])
    batch = request_tensors(arrays, requests, LENGTH)
    for line, request in enumerate(requests):
        for many, one in zip(
            batch, request_tensors(arrays, np.array([request]), LENGTH), strict=True
        ):
            assert many[line].tolist() == one[0].tolist()


def test_a_newcomer_is_a_request_without_user_and_history(random_dataset: PreparedDataset) -> None:
    requests = random_dataset.requests(Split.TEST)[:4]
    known = request_tensors(random_dataset.arrays, requests, LENGTH)
    hidden = torch.tensor([True, False, True, False])
    mixed = as_newcomers(known, hidden)
    unknown = encode_request(
        FeatureSchema(
            user=random_dataset.meta.user_fields,
            context=random_dataset.meta.context_fields,
            item=random_dataset.meta.item_fields,
            history_length=LENGTH,
        ),
        random_dataset.items,
        user={},
        context={},
        history_keys=np.zeros(0, dtype=np.uint64),
        history_ts_us=np.zeros(0, dtype=np.int64),
        ts_us=int(random_dataset.arrays.request_ts_us[requests[0]]),
    )
    assert (known.history_len_B > 0).all()
    for name in ("user_BU", "history_rows_BL", "history_age_days_BL", "history_len_B"):
        made, shown = getattr(mixed, name), getattr(known, name)
        assert torch.equal(made[0], getattr(unknown, name)[0]), name
        assert torch.equal(made[~hidden], shown[~hidden]), name
    assert torch.equal(mixed.context_BC, known.context_BC)
    assert torch.equal(mixed.snapshot_B, known.snapshot_B)
