"""Bundles whose checksums are right and whose content is not."""

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from serving.bundles.loading import Loader, load_funnel
from tests.serving.bundles.candidates import altered
from tests.serving.unruled import no_rules
from tests.serving.world import write_tiny_bundle
from training.bundle import EMBEDDINGS, INDEX, ITEMS, BundleError

CPU = torch.device("cpu")


class Mute(nn.Module):
    """Has its table, and no `encode_user`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("vectors_RD", torch.empty(0, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x


def small_index(path: Path) -> None:
    index = faiss.IndexFlatIP(3)
    index.add(np.zeros((7, 3), dtype=np.float32))
    faiss.write_index(index, str(path))


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
        load_funnel(bundle, CPU, no_rules())


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    (tmp_path / ".draft").mkdir()
    loader = Loader(tmp_path, CPU, no_rules())
    assert loader.sources() == ["tiny"]
    with pytest.raises(BundleError, match=r"there is no folder 'tony' in .*, there are \['tiny'\]"):
        loader.load("tony")


def test_table_that_is_no_table(tmp_path: Path) -> None:
    altered(write_tiny_bundle(tmp_path / "tiny"), ITEMS, lambda p: p.write_bytes(b"x" * 100))
    with pytest.raises(BundleError, match=r"its tables cannot be read .*; export the run again"):
        Loader(tmp_path, CPU, no_rules()).load("tiny")
