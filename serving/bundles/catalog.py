"""Catalog: the bundles a server has loaded, by name."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import faiss
import numpy as np
import torch

from abtest.experiment import ExperimentConfig, ExperimentError
from serving.cascade.funnel import Funnel
from serving.cascade.rank import Ranker
from serving.cascade.recall.recall import Recall
from training.bundle import EMBEDDINGS, INDEX, Bundle, BundleError, open_bundle, read_items

BUNDLE_PARAMETER = "bundle"
"""The experiment parameter that names the bundle to answer with."""

logger = logging.getLogger(__name__)


def choose_device(setting: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device a setting means here.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' needs a GPU that torch can use; choose 'cpu' or 'auto'")
    return torch.device("cuda" if setting != "cpu" and torch.cuda.is_available() else "cpu")


def load_catalog(folder: Path, config: ExperimentConfig, device: torch.device) -> dict[str, Funnel]:
    """Load every bundle in a folder.

    A bundle that cannot be loaded is passed over with a warning, unless the configuration names it.

    Raises:
        BundleError: a bundle the configuration names is damaged.
        ExperimentError: the configuration names no bundle, or one that is not there.
    """
    wanted = _bundles_named(config)
    names = sorted(p.name for p in folder.glob("[!.]*") if p.is_dir()) if folder.is_dir() else []
    for name in sorted(wanted - set(names)):
        raise ExperimentError(
            f"the experiments name bundle {name!r}, which is not in {folder}; there are {names}"
        )
    catalog = {}
    for name in names:
        try:
            catalog[name] = load_funnel(open_bundle(folder / name), device)
        except BundleError as error:
            if name in wanted:
                raise
            logger.warning("bundle %s is not served: %s", name, error)
    return catalog


def load_funnel(bundle: Bundle, device: torch.device) -> Funnel:
    """Load a verified bundle, warmed up.

    Raises:
        BundleError: its files do not fit together.
    """
    items = read_items(bundle)
    index = _read_index(bundle)
    embeddings_ID = np.load(bundle.file(EMBEDDINGS))
    if not len(items.index) - 1 == index.ntotal == len(embeddings_ID):
        raise BundleError(
            f"{bundle.path}: {len(items.index) - 1} items, {len(embeddings_ID)} embeddings and an "
            f"index of {index.ntotal}; they must agree, export the run again"
        )
    first, *later = bundle.manifest.stages
    modules = {s.name: _load_module(bundle, s.module, device) for s in bundle.manifest.stages}
    recall = Recall(
        modules[first.name],
        index,
        embeddings_ID,
        items,
        keep=first.keep,
        history_candidates=bundle.manifest.history_candidates,
        device=device,
    )
    rankers = [Ranker(s.name, modules[s.name], s.keep, device) for s in later]
    funnel = Funnel(bundle.manifest, items.index, recall, rankers)
    try:
        funnel.warm_up()
    except (RuntimeError, AttributeError, torch.jit.Error) as error:
        raise BundleError(
            f"{bundle.path}: its modules cannot score ({error}); export the run again"
        ) from error
    return funnel


def history_length(catalog: Mapping[str, Funnel]) -> int:
    """The longest history any loaded bundle looks at."""
    return max(funnel.manifest.features.history_length for funnel in catalog.values())


def _bundles_named(config: ExperimentConfig) -> set[str]:
    if not isinstance(config.defaults.get(BUNDLE_PARAMETER), str):
        raise ExperimentError(
            f"[defaults] must set {BUNDLE_PARAMETER!r} to the name of a bundle; "
            f"it sets {sorted(config.defaults)}"
        )
    variants = [v for layer in config.layers for e in layer.experiments for v in e.variants]
    values = (config.defaults, *(variant.params for variant in variants))
    return {str(v[BUNDLE_PARAMETER]) for v in values if BUNDLE_PARAMETER in v}


def _read_index(bundle: Bundle) -> faiss.Index:
    try:
        return faiss.read_index(str(bundle.file(INDEX)))
    except RuntimeError as error:
        raise BundleError(
            f"{bundle.path}: {INDEX} cannot be read ({error}); export the run again"
        ) from error


def _load_module(bundle: Bundle, name: str, device: torch.device) -> torch.jit.ScriptModule:
    try:
        module: torch.jit.ScriptModule = torch.jit.load(bundle.file(name), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise BundleError(
            f"{bundle.path}: {name} is no TorchScript module this torch "
            f"({torch.__version__}) can load ({error}); export the run again"
        ) from error
    return module.eval()
