from pathlib import Path

import numpy as np

from training.recflow.vocabulary import ItemTable, Vocabulary


def test_ids_get_rows_in_the_order_of_first_sight() -> None:
    vocabulary = Vocabulary(10)
    assert vocabulary.rows(np.array([7, 3, 7, 0])).tolist() == [1, 2, 1, 3]
    assert vocabulary.rows(np.array([9, 0, 9])).tolist() == [4, 3, 4]
    assert vocabulary.ids.tolist() == [-1, 7, 3, 0, 9]
    assert len(vocabulary) == 5


def test_items_get_rows_in_the_order_of_first_sight_however_often_a_video_changes(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(0)
    table = ItemTable(tmp_path, 41)
    rows: dict[tuple[int, ...], int] = {}
    for _ in range(6):
        items = random.integers(0, 3, (1000, 8)).astype(np.int32)
        items[:, 0] = random.integers(1, 41, 1000)
        items[:, 3:] = 1
        expected = [rows.setdefault(tuple(item), len(rows) + 1) for item in items.tolist()]
        assert table.rows(items).tolist() == expected
        assert len(table) == len(rows) + 1
    assert len(rows) == 40 * 3 * 3

    table.write(tmp_path / "items.npy")

    stored = np.load(tmp_path / "items.npy")
    assert stored.dtype == np.int32
    assert stored.tolist() == [[0] * 8, *map(list, rows)]
    assert [path.name for path in tmp_path.iterdir()] == ["items.npy"]


def test_the_table_outgrows_its_first_file(tmp_path: Path) -> None:
    table = ItemTable(tmp_path, 5001)
    items = np.arange(1, 5001, dtype=np.int32)[:, None].repeat(8, axis=1)
    for first in range(0, 5000, 500):
        assert (
            table.rows(items[first : first + 500]).tolist()
            == items[first : first + 500, 0].tolist()
        )
    assert table.rows(items).tolist() == items[:, 0].tolist()
    table.write(tmp_path / "items.npy")
    assert np.load(tmp_path / "items.npy", mmap_mode="r").shape == (5001, 8)
