from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.tables import corner_shop, day
from training.data.dataset import (
    ITEMS,
    META,
    Arrays,
    PreparedDataset,
    Split,
    write_prepared,
)
from training.data.source import DatasetError
from training.data.transactions import prepare


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedDataset:
    return prepare(corner_shop().write(tmp_path / "source"), tmp_path / "prepared")


def _write(
    dataset: PreparedDataset, out: Path, write_rest: Callable[[Path], None]
) -> PreparedDataset:
    return write_prepared(out, dataset.meta, dataset.arrays, write_rest)


def _hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


class TestRequests:
    def test_periods_are_cut_at_their_boundaries(self, corner: PreparedDataset) -> None:
        times = {
            split: corner.arrays.request_ts_us[corner.requests(split)].tolist() for split in Split
        }
        assert times == {
            Split.TRAIN: [day(0), day(2), day(16, -1)],
            Split.VALIDATION: [day(16), day(23, -1)],
            Split.TEST: [day(23), day(30)],
        }

    def test_periods_are_in_time_order_and_complete(self, random_dataset: PreparedDataset) -> None:
        requests = [random_dataset.requests(split) for split in Split]
        together = np.concatenate(requests)
        assert (np.diff(random_dataset.arrays.request_ts_us[together]) >= 0).all()
        assert sorted(together.tolist()) == list(range(len(random_dataset.arrays.request_user)))
        assert all(len(part) for part in requests)


class TestOpen:
    def test_opens_what_was_written(self, prepared: PreparedDataset) -> None:
        again = PreparedDataset(prepared.path)
        assert again.meta == prepared.meta
        assert again.items.item_ids == ("a", "b")
        for name in Arrays._fields:
            np.testing.assert_array_equal(
                getattr(again.arrays, name), getattr(prepared.arrays, name)
            )

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError) as caught:
            PreparedDataset(tmp_path / "none")
        assert str(caught.value) == (
            f"{tmp_path}/none holds no prepared dataset; make one with `cascade data`"
        )

    @pytest.mark.parametrize("name", ["truth_rows.npy", "snapshot_price.npy", ITEMS])
    @pytest.mark.parametrize("size", [None, 0, 100])
    def test_missing_or_truncated_file(
        self, prepared: PreparedDataset, name: str, size: int | None
    ) -> None:
        path = prepared.path / name
        content = path.read_bytes()
        path.unlink()
        if size is not None:
            path.write_bytes(content[:size])
        with pytest.raises(DatasetError) as caught:
            PreparedDataset(prepared.path)
        assert str(caught.value) == f"{path} is missing or damaged; run `cascade data` again"

    @pytest.mark.parametrize(("old", "new"), [('"format": 1', '"format": 2'), ("{", "")])
    def test_other_format_or_no_json(self, prepared: PreparedDataset, old: str, new: str) -> None:
        path = prepared.path / META
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(DatasetError) as caught:
            PreparedDataset(prepared.path)
        assert str(caught.value) == f"{path} is missing or damaged; run `cascade data` again"


class TestWrite:
    def test_equal_tables_have_equal_fingerprints(
        self, prepared: PreparedDataset, tmp_path: Path
    ) -> None:
        again = prepare(corner_shop().write(tmp_path / "again"), tmp_path / "twin")
        assert again.meta == prepared.meta
        source = corner_shop()
        source.lines[0] = source.lines[0]._replace(ts_us=day(25, 1))
        other = prepare(source.write(tmp_path / "other"), tmp_path / "other-prepared")
        assert other.meta.fingerprint != prepared.meta.fingerprint

    def test_replaces_a_prepared_dataset_whole(self, prepared: PreparedDataset) -> None:
        (prepared.path / "left-behind").touch()
        source = corner_shop()
        source.toml = source.toml.replace("corner-shop", "other-shop")
        config = source.write(prepared.path.parent / "source")
        again = prepare(config, prepared.path)
        assert again.meta.name == "other-shop"
        assert not (prepared.path / "left-behind").exists()
        assert _hidden(prepared.path.parent) == []

    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_never_replaces_anything_else(
        self, prepared: PreparedDataset, tmp_path: Path, kind: str
    ) -> None:
        out = tmp_path / "precious"
        kept = out / "thesis.tex" if kind == "folder" else out
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("chapter 1")
        with pytest.raises(DatasetError) as caught:
            _write(prepared, out, lambda _: None)
        assert str(caught.value) == f"{out} exists and is no prepared dataset; choose another --out"
        assert kept.read_text() == "chapter 1"

    def test_an_empty_folder_is_taken(self, tmp_path: Path) -> None:
        out = tmp_path / "empty"
        out.mkdir()
        assert prepare(corner_shop().write(tmp_path / "source"), out).path == out

    def test_a_failure_leaves_what_was_there(self, prepared: PreparedDataset) -> None:
        def fail(_: Path) -> None:
            raise OSError("disk full")

        for out in (prepared.path, prepared.path.with_name("new")):
            with pytest.raises(OSError, match="disk full"):
                _write(prepared, out, fail)
        assert PreparedDataset(prepared.path).meta == prepared.meta
        assert not prepared.path.with_name("new").exists()
        assert _hidden(prepared.path.parent) == []
