"""Export: a run's best weights as a bundle that can be served."""

import hashlib
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.answers import plain_arrays, spread
from training.bundle import (
    AVAILABLE,
    EMBEDDINGS,
    FORMAT_VERSION,
    INDEX,
    ITEM_ID,
    ITEMS,
    POPULARITY,
    PRICE_MICROS,
    Bundle,
    Manifest,
    Stage,
    write_bundle,
)
from training.cascade import RANK, RETRIEVAL, Cascade, feature_schema
from training.checkpoint import Run, read_best
from training.config import TrainConfig
from training.data.dataset import PreparedDataset, Split
from training.data.requests import request_tensors
from training.evaluation import load_run
from training.index import build_index
from training.models.served import din, two_tower
from training.models.served.din import ServedDeepInterestNetwork
from training.models.served.two_tower import ServedTwoTower

VERSION_LENGTH = 12
INDEX_REQUESTS = 256
"""So many requests of the validation period measure the recall of the index."""

MIN_SPARE_ROWS = 1000
SPARE_SHARE = 0.05


class ServedStage(NamedTuple):
    """A stage as TorchScript, and its buffers with a row an item, by dotted name."""

    module: torch.jit.ScriptModule
    tables: tuple[str, ...]


def served_stages(cascade: Cascade, spare_rows: int) -> dict[str, ServedStage]:
    """Compile the served form of the stages of a cascade, which stays as it is.

    Args:
        cascade: trained, in eval mode.
        spare_rows: rows for items that come later.
    """
    retrieval = ServedTwoTower(cascade.retrieval, spare_rows).eval()
    rank = ServedDeepInterestNetwork(cascade.rank, spare_rows).eval()
    # Not frozen: freezing turns weights into constants, which stay on the device they are on.
    return {
        RETRIEVAL: ServedStage(torch.jit.script(retrieval), two_tower.ITEM_TABLES),
        RANK: ServedStage(torch.jit.script(rank), din.ITEM_TABLES),
    }


def spare_rows(items: int) -> int:
    """Rows a bundle of so many items has for later ones.

    >>> spare_rows(500), spare_rows(1_000_000)
    (1000, 50000)
    """
    return max(MIN_SPARE_ROWS, round(SPARE_SHARE * items))


def export(folder: Path, dataset: PreparedDataset, out: Path) -> Bundle:
    """Export a run, replacing a bundle that is at `out`.

    Args:
        folder: of the run.
        dataset: the one it was trained on.
        out: folder of the bundle, whose name is the bundle's.

    Raises:
        TrainError: there is no run, or it was trained on other data.
        BundleError: `out` exists and is no bundle.
    """
    run, cascade = load_run(folder, dataset)
    _, best = read_best(folder)
    spare = spare_rows(len(dataset.items) - 1)
    stages = served_stages(cascade, spare)
    vectors_ID = _item_vectors(stages[RETRIEVAL], len(dataset.items))
    built = build_index(
        vectors_ID,
        _user_vectors(cascade, dataset, run),
        run.config.retrieval.keep,
        run.config.index,
    )
    tables: dict[str, dict[str, str]] = {}
    weights: dict[str, str] = {}

    def write_files(draft: Path) -> None:
        for name, stage in stages.items():
            tables[_module_file(name)] = _write_tables(draft, name, stage)
            weights[_module_file(name)] = _weights_sha256(stage.module)
            stage.module.save(str(draft / _module_file(name)))
        np.save(draft / EMBEDDINGS, vectors_ID)
        faiss.write_index(built.faiss_index, str(draft / INDEX))
        pq.write_table(_item_table(dataset), draft / ITEMS)

    def manifest(files: dict[str, str]) -> Manifest:
        config = run.config
        return Manifest(
            format_version=FORMAT_VERSION,
            name=out.name,
            version=_version(config, files | weights),
            created=datetime.now(UTC),
            config=config.model_dump(mode="json"),
            config_sha256=config.sha256,
            data_fingerprint=run.data_fingerprint,
            currency=dataset.meta.currency,
            features=feature_schema(dataset.meta, config),
            stages=(
                Stage(name=RETRIEVAL, module=_module_file(RETRIEVAL), keep=config.retrieval.keep),
                Stage(name=RANK, module=_module_file(RANK), keep=config.rank.keep),
            ),
            history_candidates=config.retrieval.history_candidates,
            spare_rows=spare,
            tables=tables,
            metrics={
                "validation_recall_at_20": best.recall,
                "validation_revenue_share_at_20": best.revenue_share,
                "index_recall": built.recall,
            },
            torch_version=torch.__version__,
            faiss_version=faiss.__version__,
            files=files,
        )

    return write_bundle(out, write_files, manifest)


def _module_file(stage: str) -> str:
    return f"{stage}.pt"


def _item_vectors(retrieval: ServedStage, items: int) -> NDArray[np.float32]:
    """Vectors [I, D] of all items but the unknown one."""
    with torch.inference_mode():
        vectors_ID: NDArray[np.float32] = retrieval.module.encode_items(
            torch.arange(1, items)
        ).numpy()
    return vectors_ID


def _user_vectors(cascade: Cascade, dataset: PreparedDataset, run: Run) -> NDArray[np.float32]:
    """Vectors [Q, D] of the users of some requests."""
    requests = spread(dataset.requests(Split.VALIDATION), INDEX_REQUESTS)
    tensors = request_tensors(plain_arrays(dataset), requests, run.config.history_length)
    with torch.inference_mode():
        vectors_QD: NDArray[np.float32] = cascade.retrieval.encode_user(*tensors).numpy()
    return vectors_QD


def _write_tables(draft: Path, name: str, stage: ServedStage) -> dict[str, str]:
    """Move a stage's tables into files; its module keeps empty stand-ins."""
    files = {}
    for buffer in stage.tables:
        *path, attribute = buffer.split(".")
        owner = reduce(getattr, path, stage.module)
        table: Tensor = getattr(owner, attribute)
        files[buffer] = f"{name}.{buffer}.npy"
        np.save(draft / files[buffer], table.numpy())
        setattr(owner, attribute, table[:0].clone())
    return files


def _weights_sha256(module: torch.jit.ScriptModule) -> str:
    """Hash of a module's state. That of its archive differs between equal modules.

    TorchScript numbers its classes as it meets them, and lists their constants in any order.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _version(config: TrainConfig, digests: dict[str, str]) -> str:
    """Hash of what answers depend on; an index is made of the vectors, by the configuration."""
    content = "".join(f"{name} {sha}\n" for name, sha in sorted(digests.items()) if name != INDEX)
    return hashlib.sha256(f"{config.sha256}\n{content}".encode()).hexdigest()[:VERSION_LENGTH]


def _item_table(dataset: PreparedDataset) -> pa.Table:
    """Items in the order of their rows; row 0, the unknown item, is left out."""
    source, arrays = dataset.item_table, dataset.arrays
    # By way of its shortest decimal, the float32 16.19 is 16190000 micros and not 16190001.
    prices = arrays.snapshot_price[-1][1:].astype(np.str_).astype(np.float64)
    price_micros = np.rint(prices * 1e6)
    columns = {
        ITEM_ID: source["item_id"],
        PRICE_MICROS: pa.array(price_micros.astype(np.int64)),
        AVAILABLE: source["available"],
        POPULARITY: pa.array(np.asarray(arrays.snapshot_popularity[-1][1:])),
    }
    return pa.table(columns | {f.name: source[f.name] for f in dataset.meta.item_fields})
