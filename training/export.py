"""Export: a run's best weights as a bundle that can be served."""

import copy
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

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
from training.checkpoint import Run, Validation, read_best
from training.data.dataset import PreparedDataset
from training.evaluation import load_run
from training.models.item import ItemFeatures

VERSION_LENGTH = 12


class ScriptedCascade(NamedTuple):
    """The stages as TorchScript, with the newest item snapshot only."""

    retrieval: torch.jit.ScriptModule
    rank: torch.jit.ScriptModule


def script_cascade(cascade: Cascade) -> ScriptedCascade:
    """Compile the stages of a cascade, which stays as it is."""
    served = copy.deepcopy(cascade).eval()
    for module in served.modules():
        if isinstance(module, ItemFeatures):
            module.keep_last_snapshot()
    # Not frozen: freezing turns weights into constants, which stay on the device they are on.
    return ScriptedCascade(torch.jit.script(served.retrieval), torch.jit.script(served.rank))


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
    scripted = script_cascade(cascade)

    def write_files(draft: Path) -> None:
        for name, module in scripted._asdict().items():
            module.save(str(draft / _module_file(name)))
        with torch.inference_mode():
            vectors_ID = scripted.retrieval.encode_items().numpy()
        np.save(draft / EMBEDDINGS, vectors_ID)
        index = faiss.IndexFlatIP(vectors_ID.shape[1])
        index.add(vectors_ID)
        faiss.write_index(index, str(draft / INDEX))
        pq.write_table(_item_table(dataset), draft / ITEMS)

    def manifest(files: dict[str, str]) -> Manifest:
        return _manifest(out.name, run, dataset, best, files)

    return write_bundle(out, write_files, manifest)


def _module_file(stage: str) -> str:
    return f"{stage}.pt"


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


def _manifest(
    name: str, run: Run, dataset: PreparedDataset, best: Validation, files: dict[str, str]
) -> Manifest:
    config = run.config
    content = "".join(f"{file} {digest}\n" for file, digest in sorted(files.items()))
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        version=hashlib.sha256(content.encode()).hexdigest()[:VERSION_LENGTH],
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
        metrics={
            "validation_recall_at_20": best.recall,
            "validation_revenue_share_at_20": best.revenue_share,
        },
        torch_version=torch.__version__,
        faiss_version=faiss.__version__,
        files=files,
    )
