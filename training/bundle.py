"""Bundle: the immutable folder that carries a trained cascade from training to serving.

A bundle holds `manifest.json`, one TorchScript module a stage, the tables those modules look items
up in, the item table, the item embeddings and the FAISS index. It is written beside its final name
and renamed, so that a reader sees a whole bundle or none; every file is verified against the
checksum in the manifest when it is opened.

Row 0 of every table is the unknown item, rows 1 to I are the items of the item table, and the spare
rows after them wait for items that come later. Until `put_items` fills one it is unknown, too.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.durable import sync
from training.features import FeatureSchema, ItemIndex

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
ITEMS = "items.parquet"
EMBEDDINGS = "item_embeddings.npy"
INDEX = "index.faiss"

ITEM_ID = "item_id"
PRICE_MICROS = "price_micros"
AVAILABLE = "available"
POPULARITY = "popularity"
"""Columns of the item table, beside one string column per item field of the schema."""


class BundleError(ValueError):
    """A bundle that cannot be read or written; the message names file, fault and remedy."""


class Stage(BaseModel):
    """One stage of the cascade and how many candidates it passes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    module: str
    """TorchScript file. It scores candidates, `forward(*request, rows_BN) -> logits [B, N]`, and
    learns of items, `put_items(rows_N, fields_NF, price_N, popularity_N)`. The first stage also has
    `encode_user(*request) -> [B, D]` and `encode_items(rows_N) -> [N, D]`."""
    keep: int = Field(ge=1)


class Manifest(BaseModel):
    """What a bundle is, where it came from, and what its files must hash to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    name: str
    version: str
    """Short content hash: equal files have equal versions."""
    created: datetime
    config: dict[str, Any]
    config_sha256: str
    data_fingerprint: str
    currency: str
    features: FeatureSchema
    stages: tuple[Stage, ...] = Field(min_length=2)
    history_candidates: int = Field(ge=0)
    """Most items of the user's own history that join the recalled candidates before ranking."""
    spare_rows: int = Field(ge=0)
    """Rows after those of the items, for items that come later."""
    tables: dict[str, dict[str, str]]
    """Per module file: its buffers that stand in `.npy` files of their own, to be mapped, by dotted
    name. In the module each is an empty stand-in."""
    metrics: dict[str, float]
    torch_version: str
    faiss_version: str
    files: dict[str, str]
    """sha256 of every other file of the bundle."""


class ItemTable(BaseModel):
    """Rows 1 to I of the cascade's items; row 0, the unknown item, is not in the table."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    index: ItemIndex
    price_micros: NDArray[np.int64]
    """int64 [I]: last known price, 0 where none is known."""
    available: NDArray[np.bool_]
    """bool [I]: may be recommended."""
    popularity: NDArray[np.float32]
    """float32 [I]: interactions in the newest snapshot's window."""


class Bundle(BaseModel):
    """A verified bundle on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Path of a file of the bundle."""
        return self.path / name


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(
    target: Path,
    write_files: Callable[[Path], None],
    manifest: Callable[[dict[str, str]], Manifest],
) -> Bundle:
    """Write a bundle atomically, replacing the one of the same name.

    Args:
        target: folder the bundle shall have.
        write_files: writes every file but the manifest into the folder it is given.
        manifest: makes the manifest from the files' checksums.

    Raises:
        BundleError: the target exists and is not a bundle.
    """
    if target.exists() and not (target / MANIFEST).is_file():
        raise BundleError(f"{target} exists and is no bundle; choose another --out or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        write_files(draft)
        files = {path.name: sha256_of(path) for path in sorted(draft.iterdir())}
        made = manifest(files)
        (draft / MANIFEST).write_text(made.model_dump_json(indent=1) + "\n")
        for path in (*draft.iterdir(), draft):
            sync(path)
        replaced = target.with_name(f".{target.name}.{os.getpid()}.replaced")
        if target.exists():
            target.rename(replaced)
        draft.rename(target)
        sync(target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Bundle(path=target, manifest=made)


def open_bundle(path: Path) -> Bundle:
    """Open a bundle and verify every file against its checksum.

    Raises:
        BundleError: no bundle there, another format version, a missing, unlisted or damaged file.
    """
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        raise BundleError(f"{path} holds no {MANIFEST}; make a bundle with `cascade export`")
    try:
        raw = json.loads(manifest_path.read_bytes())
    except ValueError as error:
        raise BundleError(
            f"{manifest_path} is not valid JSON ({error}); export it again"
        ) from error
    found = raw.get("format_version") if isinstance(raw, dict) else None
    if found != FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {found!r}, this release reads {FORMAT_VERSION}; "
            "export the run again with this release"
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{manifest_path}: {where}: {first['msg']}; export it again") from error
    modules = {stage.module for stage in manifest.stages}
    for name in sorted(manifest.tables.keys() - modules):
        raise BundleError(
            f"{manifest_path}: tables are listed for {name}, which is no module of a stage, those "
            f"are {sorted(modules)}; export the run again"
        )
    tables = {file for files in manifest.tables.values() for file in files.values()}
    needed = {ITEMS, EMBEDDINGS, INDEX} | modules | tables
    for name in sorted(needed - manifest.files.keys()):
        raise BundleError(f"{manifest_path} lists no checksum of {name}; export the run again")
    for name, expected in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise BundleError(f"{path}: {name} is missing; export the run again")
        if sha256_of(file) != expected:
            raise BundleError(
                f"{path}: {name} ({file.stat().st_size} bytes) does not match its checksum in "
                f"{MANIFEST}; it is truncated or damaged, export the run again"
            )
    return Bundle(path=path, manifest=manifest)


def read_items(bundle: Bundle) -> ItemTable:
    """Read the item table of a verified bundle."""
    table = pq.read_table(bundle.file(ITEMS))
    return ItemTable(
        index=ItemIndex(table[ITEM_ID].to_pylist()),
        price_micros=table[PRICE_MICROS].to_numpy(),
        available=table[AVAILABLE].to_numpy(zero_copy_only=False),
        popularity=table[POPULARITY].to_numpy(),
    )
