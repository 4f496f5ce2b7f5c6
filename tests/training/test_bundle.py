import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.bundle import (
    AVAILABLE,
    EMBEDDINGS,
    FORMAT_VERSION,
    INDEX,
    ITEM_ID,
    ITEMS,
    MANIFEST,
    POPULARITY,
    PRICE_MICROS,
    Bundle,
    BundleError,
    Manifest,
    Stage,
    open_bundle,
    read_items,
    write_bundle,
)
from training.features import FeatureSchema

TABLE = "rank.columns.npy"
FILES = [ITEMS, EMBEDDINGS, INDEX, "retrieval.pt", "rank.pt", TABLE]


def _manifest(files: dict[str, str], version: str = "v1") -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name="tiny",
        version=version,
        created=datetime(2024, 1, 1, tzinfo=UTC),
        config={"seed": 0},
        config_sha256="c",
        data_fingerprint="d",
        currency="EUR",
        features=FeatureSchema(user=(), context=(), item=(), history_length=1),
        stages=(
            Stage(name="retrieval", module="retrieval.pt", keep=3),
            Stage(name="rank", module="rank.pt", keep=2),
        ),
        history_candidates=1,
        spare_rows=4,
        tables={"rank.pt": {"columns": TABLE}},
        metrics={"recall@20": 0.25},
        torch_version="t",
        faiss_version="f",
        files=files,
    )


def _files(folder: Path, content: bytes = b"some weights") -> None:
    table = {
        ITEM_ID: ["a", "b"],
        PRICE_MICROS: pa.array([1_000_000, 0], pa.int64()),
        AVAILABLE: [True, False],
        POPULARITY: pa.array([5.0, 1.0], pa.float32()),
    }
    pq.write_table(pa.table(table), folder / ITEMS)
    for name in FILES[1:]:
        (folder / name).write_bytes(name.encode() + content)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundles" / "tiny", _files, _manifest)


def _edit(bundle: Bundle, **changes: object) -> None:
    path = bundle.file(MANIFEST)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _message(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    return str(caught.value)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWrite:
    def test_what_is_written_can_be_opened(self, bundle: Bundle) -> None:
        opened = open_bundle(bundle.path)
        assert opened == bundle
        assert sorted(opened.manifest.files) == sorted(FILES)
        assert opened.file(INDEX) == bundle.path / INDEX
        assert _names(bundle.path.parent) == ["tiny"]

    def test_a_newer_bundle_replaces_the_older(self, bundle: Bundle) -> None:
        write_bundle(
            bundle.path, lambda f: _files(f, b"better"), lambda files: _manifest(files, "v2")
        )
        assert open_bundle(bundle.path).manifest.version == "v2"
        assert _names(bundle.path.parent) == ["tiny"]

    def test_a_writer_that_raises_leaves_nothing(self, tmp_path: Path) -> None:
        def write(folder: Path) -> None:
            _files(folder)
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            write_bundle(tmp_path / "tiny", write, _manifest)
        assert _names(tmp_path) == []

    def test_a_writer_that_raises_keeps_the_old_bundle(self, bundle: Bundle) -> None:
        def write(folder: Path) -> None:
            (folder / ITEMS).write_bytes(b"half")
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            write_bundle(bundle.path, write, _manifest)
        assert open_bundle(bundle.path) == bundle
        assert _names(bundle.path.parent) == ["tiny"]

    def test_a_manifest_that_raises_keeps_the_old_bundle(self, bundle: Bundle) -> None:
        def manifest(files: dict[str, str]) -> Manifest:
            raise ValueError(f"{len(files)} files, no manifest")

        with pytest.raises(ValueError, match="6 files, no manifest"):
            write_bundle(bundle.path, _files, manifest)
        assert open_bundle(bundle.path) == bundle
        assert _names(bundle.path.parent) == ["tiny"]

    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_never_replaces_anything_else(self, tmp_path: Path, kind: str) -> None:
        target = tmp_path / "precious"
        kept = target / "thesis.tex" if kind == "folder" else target
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("chapter 1")
        with pytest.raises(BundleError) as caught:
            write_bundle(target, _files, _manifest)
        assert str(caught.value) == (
            f"{target} exists and is no bundle; choose another --out or remove it"
        )
        assert kept.read_text() == "chapter 1"
        assert _names(tmp_path) == ["precious"]


class TestOpen:
    @pytest.mark.parametrize("exists", [True, False])
    def test_no_bundle(self, tmp_path: Path, exists: bool) -> None:
        path = tmp_path if exists else tmp_path / "none"
        assert (
            _message(path) == f"{path} holds no manifest.json; make a bundle with `cascade export`"
        )

    @pytest.mark.parametrize("name", FILES)
    def test_missing_file(self, bundle: Bundle, name: str) -> None:
        bundle.file(name).unlink()
        assert _message(bundle.path) == f"{bundle.path}: {name} is missing; export the run again"

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("damage", ["truncated", "flipped"])
    def test_damaged_file(self, bundle: Bundle, name: str, damage: str) -> None:
        content = bytearray(bundle.file(name).read_bytes())
        if damage == "truncated":
            del content[-1:]
        else:
            content[len(content) // 2] ^= 1
        bundle.file(name).write_bytes(content)
        assert _message(bundle.path) == (
            f"{bundle.path}: {name} ({len(content)} bytes) does not match its checksum in "
            "manifest.json; it is truncated or damaged, export the run again"
        )

    @pytest.mark.parametrize("version", [1, FORMAT_VERSION + 1, None, "2"])
    def test_other_format_version(self, bundle: Bundle, version: object) -> None:
        _edit(bundle, format_version=version, added_later=True)
        assert _message(bundle.path) == (
            f"{bundle.path} has format version {version!r}, this release reads {FORMAT_VERSION}; "
            "export the run again with this release"
        )

    def test_truncated_manifest(self, bundle: Bundle) -> None:
        path = bundle.file(MANIFEST)
        path.write_bytes(path.read_bytes()[:-10])
        message = _message(bundle.path)
        assert message.startswith(f"{path} is not valid JSON (")
        assert message.endswith("); export it again")

    def test_a_manifest_that_is_no_object(self, bundle: Bundle) -> None:
        bundle.file(MANIFEST).write_text("[]")
        assert "has format version None" in _message(bundle.path)

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"currency": 5}, "currency: Input should be a valid string"),
            ({"surprise": 5}, "surprise: Extra inputs are not permitted"),
            (
                {"stages": [{"name": "rank", "module": "rank.pt", "keep": 0}]},
                "stages.0.keep: Input should be greater than or equal to 1",
            ),
            (
                {"stages": [{"name": "rank", "module": "rank.pt", "keep": 1}]},
                "stages: Tuple should have at least 2 items after validation, not 1",
            ),
        ],
    )
    def test_invalid_manifest(self, bundle: Bundle, changes: dict[str, Any], fault: str) -> None:
        _edit(bundle, **changes)
        assert _message(bundle.path) == f"{bundle.file(MANIFEST)}: {fault}; export it again"

    def test_tables_of_no_stage(self, bundle: Bundle) -> None:
        _edit(bundle, tables={"prerank.pt": {"columns": TABLE}})
        assert _message(bundle.path) == (
            f"{bundle.file(MANIFEST)}: tables are listed for prerank.pt, which is no module of a "
            "stage, those are ['rank.pt', 'retrieval.pt']; export the run again"
        )

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_without_checksum(self, bundle: Bundle, name: str) -> None:
        files = {other: sha for other, sha in bundle.manifest.files.items() if other != name}
        _edit(bundle, files=files)
        assert _message(bundle.path) == (
            f"{bundle.file(MANIFEST)} lists no checksum of {name}; export the run again"
        )


def test_read_items(bundle: Bundle) -> None:
    items = read_items(bundle)
    assert items.index.item_ids == ("a", "b")
    assert items.price_micros.tolist() == [1_000_000, 0]
    assert items.available.tolist() == [True, False]
    assert items.popularity.tolist() == [5.0, 1.0]
    assert items.popularity.dtype == np.float32
