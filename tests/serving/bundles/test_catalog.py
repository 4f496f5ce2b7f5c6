"""Bundles whose checksums are right and whose content is not."""

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from serving.bundles.catalog import load_funnel
from tests.serving.world import write_tiny_bundle
from training.bundle import (
    EMBEDDINGS,
    INDEX,
    MANIFEST,
    Bundle,
    BundleError,
    Manifest,
    open_bundle,
    sha256_of,
)

CPU = torch.device("cpu")


class Mute(nn.Module):
    """Has no `encode_user`."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def small_index(path: Path) -> None:
    index = faiss.IndexFlatIP(3)
    index.add(np.zeros((7, 3), dtype=np.float32))
    faiss.write_index(index, str(path))


def altered(bundle: Bundle, name: str, write: Callable[[Path], object]) -> Bundle:
    """The bundle with one file rewritten and its checksum renewed."""
    write(bundle.file(name))
    files = bundle.manifest.files | {name: sha256_of(bundle.file(name))}
    manifest: Manifest = bundle.manifest.model_copy(update={"files": files})
    bundle.file(MANIFEST).write_text(manifest.model_dump_json())
    return open_bundle(bundle.path)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        (INDEX, lambda p: p.write_bytes(b"x" * 100), "index.faiss cannot be read .*; export"),
        (INDEX, small_index, "40 items, 40 embeddings and an index of 7; they must agree, export"),
        (
            EMBEDDINGS,
            lambda p: np.save(p, np.zeros((3, 3), dtype=np.float32)),
            "40 items, 3 embeddings and an index of 40",
        ),
        ("rank.pt", lambda p: p.write_bytes(b"x"), "rank.pt is no TorchScript module this torch"),
        (
            "retrieval.pt",
            lambda p: torch.jit.script(Mute()).save(str(p)),
            "its modules cannot score .*encode_user.*; export the run again",
        ),
    ],
)
def test_contents_that_do_not_fit(
    tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    bundle = altered(write_tiny_bundle(tmp_path / "tiny"), name, write)
    with pytest.raises(BundleError, match=message):
        load_funnel(bundle, CPU)
