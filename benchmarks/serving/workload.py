"""The bundles that are served, and the users who ask.

Item vectors stand in clusters, as trained ones do, and a user's history comes from a few of them:
drawn without clusters, no inverted file would find anything.

Legend: I items, D width, U users, L history length, C clusters.
"""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import faiss
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from benchmarks.serving.models import RANKERS, TABLE, Retrieval
from benchmarks.serving.plan import Catalogue
from benchmarks.serving.recommender import item_id
from training.bundle import (
    AVAILABLE,
    EMBEDDINGS,
    FORMAT_VERSION,
    INDEX,
    ITEM_ID,
    ITEMS,
    POPULARITY,
    PRICE_MICROS,
    Manifest,
    Stage,
    write_bundle,
)
from training.features import FeatureSchema

ITEMS_A_CLUSTER = 100
NOISE = 0.6
"""Spread of a cluster, in units of that of the centres."""
TASTES = 3
"""Clusters that a user's history comes from."""
SPARE_ROWS = 1_000
MARKER = ".benchmark"

EXPERIMENTS = """
version = 1

[defaults]
bundle = "{bundle}"

[[layers]]
name = "model"
unit = "user_id"
seed = "benchmark"

[[layers.experiments]]
key = "a-a"
revision = 1
state = "running"
control = "a"
variants = [
    {{ name = "a", weight = 0.5, params = {{ bundle = "{bundle}" }} }},
    {{ name = "b", weight = 0.5, params = {{ bundle = "{bundle}" }} }},
]
"""

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class WorkloadError(ValueError):
    """A folder that cannot be written to; the message says why and what to do."""


class Served(NamedTuple):
    """What is served: a data directory of our server, from which the peers read too."""

    data_dir: Path
    bundle: Path
    users: Path


def clustered(items: int, width: int, rng: np.random.Generator) -> tuple[Float32, Int64]:
    """Unit vectors [I, D] in clusters, and the cluster of each [I]."""
    clusters = max(items // ITEMS_A_CLUSTER, 1)
    centre_CD = rng.standard_normal((clusters, width), dtype=np.float32)
    cluster_I = rng.integers(clusters, size=items)
    vectors_ID = rng.standard_normal((items, width), dtype=np.float32)
    vectors_ID *= NOISE
    vectors_ID += centre_CD[cluster_I]
    vectors_ID /= np.linalg.norm(vectors_ID, axis=1, keepdims=True)
    return vectors_ID, cluster_I


def histories(cluster_I: Int64, users: int, length: int, rng: np.random.Generator) -> Int64:
    """Item rows [U, L] of users, newest first: distinct items of a few clusters each."""
    order_I = np.argsort(cluster_I, kind="stable")
    bounds = np.searchsorted(cluster_I[order_I], np.arange(cluster_I.max() + 2))
    rows_UL = np.empty((users, length), dtype=np.int64)
    for rows_L in rows_UL:
        liked = rng.permutation(len(bounds) - 1)[:TASTES]
        pool = np.concatenate([order_I[bounds[c] : bounds[c + 1]] for c in liked])
        rows_L[:] = rng.permutation(pool)[:length] + 1
    return rows_UL


def write(folder: Path, catalogue: Catalogue, seed: int = 0) -> dict[str, Served]:
    """Write a data directory for each ranker, replacing what an earlier run left there.

    Raises:
        WorkloadError: the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).is_file():
            raise WorkloadError(
                f"{folder} holds something that this benchmark did not write; choose another --data"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    vectors_ID, cluster_I = clustered(catalogue.items, catalogue.width, rng)
    users = folder / "users.npz"
    rows_UL = histories(cluster_I, catalogue.users, catalogue.history, rng)
    np.savez(users, history_rows_UL=rows_UL)
    retrieval = Retrieval(catalogue.width)
    served = {}
    for name in catalogue.rankers:
        data_dir = folder / name
        bundle = data_dir / "bundles" / name
        modules = {"retrieval": retrieval, "rank": RANKERS[name](catalogue.width)}
        _write_bundle(bundle, modules, vectors_ID, catalogue)
        (data_dir / "experiments.toml").write_text(EXPERIMENTS.format(bundle=name))
        served[name] = Served(data_dir, bundle, users)
    return served


def put_users(url: str, users: Path, now: datetime) -> None:
    """Tell our server the histories: an interaction an hour, the newest one an hour ago.

    Raises:
        httpx.HTTPStatusError: it does not take them.
    """
    with httpx.Client(base_url=url) as client:
        for number, rows in enumerate(np.load(users)["history_rows_UL"].tolist()):
            interactions = [
                {"item_id": item_id(row), "ts": (now - timedelta(hours=age)).isoformat()}
                for age, row in enumerate(rows, start=1)
            ]
            client.put(
                f"/v1/users/u{number}", json={"interactions": interactions}
            ).raise_for_status()


def _write_bundle(
    target: Path,
    modules: Mapping[str, torch.nn.Module],
    vectors_ID: Float32,
    catalogue: Catalogue,
) -> None:
    tables = {f"{name}.pt": {TABLE: f"{name}.{TABLE}.npy"} for name in modules}

    known_RD = np.pad(vectors_ID, [(1, SPARE_ROWS), (0, 0)])

    def write_files(draft: Path) -> None:
        pq.write_table(_item_table(len(vectors_ID)), draft / ITEMS)
        np.save(draft / EMBEDDINGS, vectors_ID)
        faiss.write_index(_index(vectors_ID, catalogue), str(draft / INDEX))
        for name, module in modules.items():
            torch.jit.script(module.eval()).save(str(draft / f"{name}.pt"))
            np.save(draft / tables[f"{name}.pt"][TABLE], known_RD)

    def manifest(files: dict[str, str]) -> Manifest:
        return Manifest(
            format_version=FORMAT_VERSION,
            name=target.name,
            version="benchmark",
            created=datetime.now(UTC),
            config={},
            config_sha256="0" * 64,
            data_fingerprint="drawn",
            currency="USD",
            features=FeatureSchema(user=(), context=(), item=(), history_length=catalogue.history),
            stages=(
                Stage(name="retrieval", module="retrieval.pt", keep=catalogue.recalled),
                Stage(name="rank", module="rank.pt", keep=catalogue.answered),
            ),
            history_candidates=0,
            spare_rows=SPARE_ROWS,
            tables=tables,
            metrics={},
            torch_version=torch.__version__,
            faiss_version=faiss.__version__,
            files=files,
        )

    write_bundle(target, write_files, manifest)


def _item_table(items: int) -> pa.Table:
    return pa.table(
        {
            ITEM_ID: [item_id(row) for row in range(1, items + 1)],
            PRICE_MICROS: pa.array(np.full(items, 1_000_000)),
            AVAILABLE: pa.array(np.ones(items, dtype=np.bool_)),
            POPULARITY: pa.array(np.ones(items, dtype=np.float32)),
        }
    )


def _index(vectors_ID: Float32, catalogue: Catalogue) -> faiss.Index:
    index = faiss.index_factory(
        catalogue.width, f"IVF{catalogue.cells},SQ8", faiss.METRIC_INNER_PRODUCT
    )
    index.train(vectors_ID)
    index.add(vectors_ID)
    faiss.ParameterSpace().set_index_parameter(index, "nprobe", catalogue.probes)
    return index
