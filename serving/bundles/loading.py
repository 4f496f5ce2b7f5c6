"""Loading: from a folder on disk to a funnel that can answer."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from serving.bundles.stage_module import load_stage
from serving.cascade.funnel import Funnel
from serving.cascade.items import load_items
from serving.cascade.rank import Ranker
from serving.cascade.recall.index import Index, read_index
from serving.cascade.recall.recall import Recall
from serving.cascade.rerank.reranker import Reranker
from serving.cascade.rerank.rulebook import Rulebook
from serving.cascade.stock import Stock
from training.bundle import EMBEDDINGS, INDEX, Bundle, BundleError, open_bundle


def choose_device(setting: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device a setting means here.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' needs a GPU that torch can use; choose 'cpu' or 'auto'")
    return torch.device("cuda" if setting != "cpu" and torch.cuda.is_available() else "cpu")


class Loader:
    """Loads bundles of one folder onto one device."""

    def __init__(self, folder: Path, device: torch.device, rulebook: Rulebook) -> None:
        """Load sub-folders of `folder`."""
        self.folder = folder
        self._device = device
        self._rulebook = rulebook

    def sources(self) -> list[str]:
        """Names of the sub-folders, whatever is in them; hidden ones are drafts."""
        return sorted(path.name for path in self.folder.glob("[!.]*") if path.is_dir())

    def load(self, source: str) -> Funnel:
        """Verify, load and warm up the bundle in a sub-folder; may run in any thread.

        Raises:
            BundleError: there is none, or it is damaged or cannot score.
        """
        path = self.folder / source
        if not path.is_dir():
            raise BundleError(
                f"there is no folder {source!r} in {self.folder}, there are {self.sources()}; "
                "make a bundle with `cascade export`"
            )
        try:
            return load_funnel(open_bundle(path), self._device, self._rulebook)
        except BundleError:
            raise
        except (OSError, KeyError, ValueError) as error:
            raise BundleError(
                f"{path}: its tables cannot be read ({error}); export the run again"
            ) from error


def load_funnel(bundle: Bundle, device: torch.device, rulebook: Rulebook) -> Funnel:
    """Load a verified bundle, warmed up.

    Raises:
        BundleError: its files do not fit together.
    """
    items = load_items(bundle)
    index = _read_index(bundle, device)
    # As a plain array: the class of a mapped one costs time at each look-up.
    embeddings_ID = np.asarray(np.load(bundle.file(EMBEDDINGS), mmap_mode="r"))
    n_items = len(items.index) - 1
    if not n_items == index.size == len(embeddings_ID):
        raise BundleError(
            f"{bundle.path}: {n_items} items, {len(embeddings_ID)} embeddings and an index of "
            f"{index.size}; they must agree, export the run again"
        )
    first, *later = bundle.manifest.stages
    modules = {s.name: load_stage(bundle, s, device) for s in bundle.manifest.stages}
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
    stock = Stock(bundle.manifest.features, items, tuple(modules.values()), recall, device)
    manifest = bundle.manifest
    reranker = Reranker(manifest.name, items, manifest.features.item, recall.vectors, rulebook)
    funnel = Funnel(manifest, items, recall, rankers, reranker, stock)
    try:
        funnel.warm_up()
        stock.warm_up()
    except (RuntimeError, AttributeError, torch.jit.Error) as error:
        raise BundleError(
            f"{bundle.path}: its modules cannot score ({error}); export the run again"
        ) from error
    return funnel


def _read_index(bundle: Bundle, device: torch.device) -> Index:
    try:
        return read_index(bundle.file(INDEX), device)
    except RuntimeError as error:
        raise BundleError(
            f"{bundle.path}: {INDEX} cannot be read ({error}); export the run again"
        ) from error
