import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import feather

from training.recflow.generator import generate
from training.recflow.log import LogError
from training.recflow.source import Source

DAY = "2024-01-13"
ROWS = f"all_stage/{DAY}.feather"
HISTORIES = f"seq_effective_50_dict/{DAY}.pkl"
LISTS = f"request_id_dict/{DAY}.pkl"
COUNTS = "others/id_cnt.pkl"

Int64 = NDArray[np.int64]
Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("source") / "small"
    generate(out, requests=20, days=1, seed=0)
    return out


@pytest.fixture
def root(small: Path, tmp_path: Path) -> Path:
    shutil.copytree(small, tmp_path / "data")
    return tmp_path / "data"


def _read(root: Path) -> tuple[Any, ...]:
    """Everything preparation reads of the day."""
    source = Source(root)
    rows = source.rows(DAY)
    ids = rows.requests_RC[:, 0]
    return rows, [*source.histories(DAY, ids)], [*source.lists(DAY, ids)]


def _rows(edit: Callable[[pa.Table], pa.Table]) -> Edit:
    def apply(root: Path) -> None:
        table = feather.read_table(root / ROWS, memory_map=False)
        feather.write_feather(edit(table), str(root / ROWS))

    return apply


def _cell(column: str, row: int, value: object) -> Edit:
    def edit(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        return table.set_column(table.schema.names.index(column), column, [values])

    return _rows(edit)


def _pickle(file: str, edit: Callable[[dict[Any, Any]], object]) -> Edit:
    """Edit a pickle in place, or replace it by what the edit gives."""

    def apply(root: Path) -> None:
        content = pickle.loads((root / file).read_bytes())
        changed = edit(content)
        (root / file).write_bytes(pickle.dumps(content if changed is None else changed))

    return apply


def _first(file: str, edit: Callable[[Any], object]) -> Edit:
    """Edit what a pickle holds of its first request, in place or by another."""

    def apply(content: dict[Any, Any]) -> None:
        request = next(iter(content))
        changed = edit(content[request])
        if changed is not None:
            content[request] = changed

    return _pickle(file, apply)


def _list(edit: Callable[[Any], object]) -> Edit:
    return _first(LISTS, lambda lists: {**lists, "rank_neg": edit(lists["rank_neg"])})


def _with(array: Int64, place: tuple[int, int], value: int) -> Int64:
    array = array.copy()
    array[place] = value
    return array


def _cut(file: str) -> Edit:
    def apply(root: Path) -> None:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: len(content) * 2 // 3])

    return apply


def test_names_order_and_types_of_columns_do_not_matter(small: Path, root: Path) -> None:
    def edit(table: pa.Table) -> pa.Table:
        names = {"video_id": " photo_id", "category_level_two": " category_level_two"}
        table = table.rename_columns([names.get(name, name) for name in table.schema.names])
        table = table.set_column(
            table.schema.names.index("gender"), "gender", table["gender"].cast(pa.int8())
        )
        table = table.select(table.schema.names[::-1])
        return table.take(np.random.default_rng(0).permutation(len(table)))

    _rows(edit)(root)
    _pickle(COUNTS, lambda counts: {"photo_id": counts.pop("video_id"), **counts})(root)

    np.testing.assert_equal(_read(root), _read(small))


def test_only_the_first_ten_of_a_list_are_read(small: Path, root: Path) -> None:
    _list(lambda slots: np.concatenate([slots, slots[::-1]]))(root)
    np.testing.assert_equal(_read(root), _read(small))


@pytest.mark.parametrize("empty", [(), [], np.zeros((0, 8), np.int64)])
def test_an_empty_list_is_one_that_is_not_there(root: Path, empty: object) -> None:
    _list(lambda _: empty)(root)
    lists = dict(_read(root)[2])
    assert sorted(lists["rank_neg"].filled_RS.sum(axis=1)) == [0] + [10] * 19


def test_of_several_rows_of_a_video_the_first_that_is_flagged_counts(root: Path) -> None:
    first = feather.read_table(root / ROWS, memory_map=False).to_pylist()
    row = next(row for row in first if row["rank_pos"] == 1)
    key = [("request_id", row["request_id"]), ("video_id", row["video_id"])]

    def edit(table: pa.Table) -> pa.Table:
        other = pa.Table.from_pylist([{**row, "rank_pos": 0, "rank_index": 18}])
        later = pa.Table.from_pylist([{**row, "rank_index": 19}])
        return pa.concat_tables([other, table, later])

    _rows(edit)(root)
    ids = (np.array([value]) for _, value in key)
    assert _read(root)[0].places["rank_pos"].of(*ids) == [row["rank_index"]]


FAULTS: list[tuple[Edit, str]] = [
    (
        lambda root: (root / HISTORIES).unlink(),
        r"13\.pkl is missing, while other files of that day",
    ),
    (lambda root: (root / ROWS).unlink(), r"all_stage/2024-01-13\.feather is missing"),
    (lambda root: (root / COUNTS).unlink(), r"id_cnt\.pkl is missing; download it again"),
    (lambda root: (root / ROWS).write_bytes(b""), r"13\.feather is empty, a placeholder"),
    (lambda root: (root / LISTS).write_bytes(b""), r"13\.pkl is empty, a placeholder"),
    (_cut(ROWS), r"all_stage/2024-01-13\.feather cannot be read .* cut off, damaged or no feather"),
    (_cut(HISTORIES), r"seq_effective_50_dict/2024-01-13\.pkl cannot be read .* cut off"),
    (_pickle(COUNTS, lambda _: [1]), r"id_cnt\.pkl holds a list; it must be a dictionary"),
    (_pickle(LISTS, lambda _: (1,)), r"13\.pkl holds a tuple; it must be a dictionary"),
    (
        _pickle(COUNTS, lambda counts: counts.pop("age") and None),
        r"id_cnt\.pkl has no 'age'; it has request_id, user_id, device_id, gender",
    ),
    (
        _pickle(COUNTS, lambda counts: {**counts, "age": 0}),
        r"id_cnt\.pkl: age == 0 must be an integer in \[1, 2147483646\]",
    ),
    (_rows(lambda table: table.drop_columns(["age"])), "has 0 columns 'age', not 1; its columns"),
    (
        _rows(lambda table: table.append_column("photo_id", table["video_id"])),
        "has 2 columns 'video_id', not 1",
    ),
    (
        _rows(lambda table: table.set_column(4, "age", table["age"].cast(pa.float64()))),
        "column 'age' has type double; it must be an integer",
    ),
    (_rows(lambda table: table.slice(0, 0)), "has no rows; remove the day's files"),
    (_cell("user_id", 5, None), "row 5: user_id is missing"),
    (_cell("gender", 7, 3), r"row 7: gender == 3 must be in \[0, 2\]; the file is damaged, or"),
    (_cell("video_id", 8, -1), r"row 8: video_id == -1 must be in \[0, "),
    (_cell("coarse_neg", 9, 2), r"row 9: coarse_neg == 2 must be in \[0, 1\]"),
    (_cell("request_timestamp", 3, 1705075200), "row 3: request_timestamp == 1705075200 must be"),
    (_cell("age", 1, 7), r"row 1: age == 7 of request \d+ differs from \d in row 0; all rows of"),
    (
        _cell("age", 999, 7),
        r"row 999: age == 7 of request \d+ differs from \d in row \d+; all rows",
    ),
    (
        _rows(
            lambda table: table.set_column(
                table.schema.names.index("rank_index"), "rank_index", [[255] * len(table)]
            )
        ),
        r"row \d+: rank_index == 255 must be in \[0, 254\]",
    ),
    (_pickle(HISTORIES, lambda stored: stored.popitem() and None), r"13\.pkl has no request \d+, "),
    (_pickle(LISTS, lambda stored: stored.popitem() and None), r"13\.pkl has no request \d+, "),
    (
        _first(HISTORIES, lambda history: history[:, :9]),
        r"request \d+: a history is an array of \[50, 9\]; it must be an array of \[50, 10\]",
    ),
    (_first(HISTORIES, lambda _: "none"), r"request \d+: a history is a str; it must be an array"),
    (
        _first(HISTORIES, lambda history: history.astype(float)),
        r"request \d+: a history is of float64; it must be of integers",
    ),
    (
        _first(HISTORIES, lambda history: _with(_with(history, (48, 7), 5), (49, 7), 0)),
        r"request \d+: padding \(request_timestamp 0\) follows a behaviour; it must come first",
    ),
    (
        _first(HISTORIES, lambda history: _with(history, (49, 1), 10**9)),
        r"dict/2024-01-13\.pkl, request \d+: author_id == 1000000000 must be in \[0, ",
    ),
    (_first(LISTS, lambda _: [1]), r"request \d+ holds a list; it must be a dictionary of lists"),
    (_list(lambda slots: slots[:, :7]), r"rank_neg is an array of \[10, 7\]; it must .* \[n, 8\]"),
    (_list(lambda slots: slots[0]), r"rank_neg is an array of \[8\]; it must be an array of"),
    (_list(lambda _: 3), "rank_neg is a int; it must be an array of"),
    (_list(lambda slots: slots.astype(object)), "rank_neg is of object; it must be of integers"),
    (
        _list(lambda slots: _with(slots, (4, 5), 1705075200000)),
        r"rank_neg, request \d+: upload_timestamp == 1705075200000 must be in \[0, 4294967295\]",
    ),
]


@pytest.mark.parametrize(("edit", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_a_fault_is_named(root: Path, edit: Edit, message: str) -> None:
    edit(root)
    with pytest.raises(LogError, match=message) as refusal:
        _read(root)
    assert str(root) in str(refusal.value)


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        LogError, match=r"holds no RecFlow data: there is no all_stage/DAY\.feather"
    ):
        Source(tmp_path)
