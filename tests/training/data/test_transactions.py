"""Preparing: expectations by hand on a small shop, by a slow second route on a random one."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from tests.training.tables import Line, Source, corner_shop, day
from training.data.dataset import PreparedDataset
from training.data.source import DatasetError
from training.data.transactions import prepare
from training.features import OOV, US_PER_DAY

A, B = 1, 2
"""Rows of the corner shop's eligible items."""


def _truths(dataset: PreparedDataset) -> list[dict[int, int]]:
    arrays = dataset.arrays
    return [
        dict(
            zip(
                arrays.truth_rows[start:end].tolist(),
                arrays.truth_micros[start:end].tolist(),
                strict=True,
            )
        )
        for start, end in zip(arrays.truth_starts[:-1], arrays.truth_starts[1:], strict=True)
    ]


class TestCornerShop:
    def test_items_are_counted_in_the_training_period_alone(self, corner: PreparedDataset) -> None:
        """`c` was bought 5 times, but once before validation; `a` and `b` twice."""
        assert corner.items.item_ids == ("a", "b")

    def test_item_table(self, corner: PreparedDataset) -> None:
        assert corner.item_table.to_pylist() == [
            {"item_id": "a", "available": True, "kind": "fruit", "brand's": "x"},
            {"item_id": "b", "available": False, "kind": None, "brand's": "x"},
        ]

    def test_vocabularies_are_of_the_training_period_alone(self, corner: PreparedDataset) -> None:
        """`s3` and `s9` come later; `bread`, `y` and `Köln` belong to what training never buys."""
        meta = corner.meta
        vocabularies = {
            field.name: field.vocabulary
            for field in (*meta.user_fields, *meta.context_fields, *meta.item_fields)
        }
        assert vocabularies == {
            'home "town"': ("Bonn",),
            "who's": ("u1", "u2"),
            "store": ("s1", "s2"),
            "kind": ("fruit",),
            "brand's": ("x",),
        }

    def test_fields_are_indices(self, corner: PreparedDataset) -> None:
        arrays = corner.arrays
        assert arrays.user_fields.tolist() == [[1, 1], [OOV, 2], [OOV, OOV]]
        assert arrays.item_fields.tolist() == [[OOV, OOV], [1, 1], [OOV, 1]]
        assert arrays.request_context[:, 0].tolist() == [1, 1, OOV, 1, OOV, 2, OOV]

    def test_a_request_needs_an_eligible_item(self, corner: PreparedDataset) -> None:
        arrays = corner.arrays
        requests = list(
            zip(arrays.request_user.tolist(), arrays.request_ts_us.tolist(), strict=True)
        )
        first = [day(0), day(16, -1), day(16), day(23, -1), day(23)]
        assert requests == [*((0, ts_us) for ts_us in first), (1, day(2)), (1, day(30))]

    def test_truth_is_distinct_eligible_items_with_exact_money(
        self, corner: PreparedDataset
    ) -> None:
        assert _truths(corner) == [
            {A: 100_000 + 200_000, B: 2_000_000},
            {B: 2_500_000},
            {A: 300_000},
            {A: 400_000},
            {A: 19_990_000},
            {A: 700_000},
            {B: 1_234_560_000},
        ]

    def test_history_is_strictly_before_and_holds_all_items(self, corner: PreparedDataset) -> None:
        arrays = corner.arrays
        histories = [
            arrays.purchase_rows[start:end].tolist()
            for start, end in zip(arrays.history_start, arrays.history_end, strict=True)
        ]
        first = [A, B, B, A, A]
        assert histories == [
            [],
            first[:2],
            first[:3],
            first[:4],
            first,
            [],
            [A, OOV, OOV, OOV, OOV, OOV],
        ]

    def test_the_store_of_a_request_is_that_of_all_its_lines(self, tmp_path: Path) -> None:
        """The item bought must not decide what was known when the user came in."""
        source = corner_shop()
        source.lines.append(Line("u2", "z", day(30), store="s2"))
        dataset = prepare(source.write(tmp_path / "source"), tmp_path / "out")
        assert dataset.arrays.request_context[-1].tolist() == [2]

    def test_steps_are_told(self, tmp_path: Path) -> None:
        steps: list[str] = []
        prepare(corner_shop().write(tmp_path / "source"), tmp_path / "out", steps.append)
        assert steps == [
            "Checking the tables",
            "Splitting by time and indexing",
            "Writing the replay of the test period",
        ]


class TestSnapshots:
    def test_by_hand(self, corner: PreparedDataset) -> None:
        arrays = corner.arrays
        assert arrays.snapshot_start_us.tolist() == [day(n) for n in (-5, 2, 9, 16, 23)]
        assert arrays.snapshot_price[:, 1:].tolist() == [
            [0.0, 0.0],
            [np.float32(0.2), 2.0],
            [np.float32(0.7), 2.0],
            [np.float32(0.7), 2.5],
            [np.float32(0.4), 2.5],
        ]
        assert arrays.snapshot_popularity[:, 1:].tolist() == [
            [0, 0],
            [1, 1],
            [2, 1],
            [2, 2],
            [4, 2],
        ]

    def test_by_a_second_route(
        self, random_source: Source, random_dataset: PreparedDataset
    ) -> None:
        arrays = random_dataset.arrays
        for s, start in enumerate(arrays.snapshot_start_us.tolist()):
            for row, sku in enumerate(random_dataset.items.item_ids, start=1):
                past = [
                    line for line in random_source.lines if line.sku == sku and line.ts_us < start
                ]
                # Of lines at the same time the dearest counts.
                last = max(past, key=lambda line: (line.ts_us, float(line.price)), default=None)
                window = [line for line in past if line.ts_us >= start - 28 * US_PER_DAY]
                assert arrays.snapshot_price[s, row] == np.float32(last.price if last else 0)
                assert arrays.snapshot_popularity[s, row] == len(window)
        assert arrays.snapshot_popularity[:, OOV].sum() == 0
        assert arrays.snapshot_start_us[-1] == random_dataset.meta.test_start_us
        assert arrays.snapshot_start_us[0] <= arrays.request_ts_us.min()


class TestRandomShop:
    def test_items_by_a_second_route(
        self, random_source: Source, random_dataset: PreparedDataset
    ) -> None:
        start = random_dataset.meta.validation_start_us
        assert start == day(60 - 7 - 7)
        counts = Counter(str(line.sku) for line in random_source.lines if line.ts_us < start)
        eligible = [sku for sku, count in counts.items() if count >= 5]
        assert len(eligible) < len(counts)
        expected = sorted(eligible, key=lambda sku: (-counts[sku], sku))
        assert random_dataset.items.item_ids == tuple(expected)

    def test_requests_truth_and_history_by_a_second_route(
        self, random_source: Source, random_dataset: PreparedDataset
    ) -> None:
        items, arrays = random_dataset.items, random_dataset.arrays
        trips: dict[tuple[str, int], dict[int, int]] = defaultdict(dict)
        for line in random_source.lines:
            if row := items.row(str(line.sku)):
                trips[str(line.buyer), line.ts_us][row] = line.micros
        keys = sorted(trips)
        names = random_source.users["who's"]
        users = [names[user] for user in arrays.request_user]
        assert list(zip(users, arrays.request_ts_us.tolist(), strict=True)) == keys
        assert _truths(random_dataset) == [trips[key] for key in keys]
        for request, (user, ts_us) in enumerate(keys):
            past = sorted(
                (line.ts_us, str(line.sku))
                for line in random_source.lines
                if line.buyer == user and line.ts_us < ts_us
            )
            history = slice(arrays.history_start[request], arrays.history_end[request])
            assert arrays.purchase_ts_us[history].tolist() == [ts for ts, _ in past]
            assert arrays.purchase_rows[history].tolist() == [items.row(sku) for _, sku in past]

    def test_the_order_of_rows_in_the_files_changes_nothing(
        self, random_source: Source, random_dataset: PreparedDataset, tmp_path: Path
    ) -> None:
        turned = Source(
            random_source.lines[::-1],
            users={name: values[::-1] for name, values in random_source.users.items()},
            items={name: values[::-1] for name, values in random_source.items.items()},
            min_item_count=random_source.min_item_count,
        )
        again = prepare(turned.write(tmp_path / "source"), tmp_path / "out")
        assert again.meta == random_dataset.meta


class TestErrors:
    @staticmethod
    def _message(source: Source, folder: Path) -> str:
        with pytest.raises(DatasetError) as caught:
            prepare(source.write(folder / "source"), folder / "out")
        assert not (folder / "out").exists()
        return str(caught.value)

    def test_no_interactions(self, tmp_path: Path) -> None:
        assert self._message(Source([]), tmp_path) == (
            "interactions.parquet has no rows; bring some interactions"
        )

    def test_too_few_days(self, tmp_path: Path) -> None:
        lines = [Line("u1", "a", day(n)) for n in (0, 14)]
        assert self._message(Source(lines), tmp_path) == (
            "interactions.parquet: 14.0 days of interactions leave none for training after "
            "7 test and 7 validation days; lower them under [split]"
        )

    def test_a_microsecond_of_training_is_enough(self, tmp_path: Path) -> None:
        lines = [Line("u1", "a", ts_us) for ts_us in (day(0, -1), day(14))]
        source = Source(lines, min_item_count=1)
        assert prepare(source.write(tmp_path / "source"), tmp_path / "out").items.item_ids == ("a",)

    def test_no_item_is_bought_often_enough(self, tmp_path: Path) -> None:
        source = corner_shop()
        source.min_item_count = 3
        assert self._message(source, tmp_path) == (
            "interactions.parquet: no item has 3 interactions in the training period; "
            "lower min_item_count"
        )


def test_without_any_features(tmp_path: Path) -> None:
    source = corner_shop()
    source.toml = source.toml.replace('features = ["home \\"town\\"", "who\'s"]', "")
    source.toml = source.toml.replace('features = ["kind", "brand\'s"]', "")
    source.toml = source.toml.replace('context = ["store"]', "")
    dataset = prepare(source.write(tmp_path / "source"), tmp_path / "out")
    assert dataset.meta.user_fields == dataset.meta.context_fields == dataset.meta.item_fields == ()
    arrays = dataset.arrays
    assert (arrays.user_fields.shape, arrays.item_fields.shape) == ((3, 0), (3, 0))
    assert arrays.request_context.shape == (7, 0)
