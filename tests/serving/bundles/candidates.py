"""Bundles to be activated or tried, good and bad, in the tiny world."""
# ruff: noqa: ARG002  # a stage takes the whole request, whatever it looks at

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from serving.bundles.loading import Loader
from serving.cascade.funnel import Funnel
from serving.cascade.policy import Policy
from serving.cascade.query import Query
from serving.state.feature_store import UserState
from tests.serving.unruled import no_rules
from tests.serving.world import Ranking, write_tiny_bundle
from training.bundle import MANIFEST, Bundle, Manifest, open_bundle, sha256_of
from training.features import item_keys

CPU = torch.device("cpu")


class NoScores(Ranking):
    """Ranks with scores that are not finite."""

    def forward(
        self,
        user: Tensor,
        context: Tensor,
        rows: Tensor,
        ages: Tensor,
        n: Tensor,
        snapshot: Tensor,
        candidates: Tensor,
    ) -> Tensor:
        return torch.full_like(self.number_R[candidates], float("nan"))


def altered(bundle: Bundle, name: str, write: Callable[[Path], object]) -> Bundle:
    """The bundle with one file rewritten and its checksum renewed."""
    write(bundle.file(name))
    files = bundle.manifest.files | {name: sha256_of(bundle.file(name))}
    manifest: Manifest = bundle.manifest.model_copy(update={"files": files})
    bundle.file(MANIFEST).write_text(manifest.model_dump_json())
    return open_bundle(bundle.path)


def write_scoreless_bundle(target: Path) -> None:
    """Write a bundle that verifies and loads, and cannot rank."""
    module = torch.jit.script(NoScores(1.0).eval())
    altered(write_tiny_bundle(target), "rank.pt", lambda path: module.save(str(path)))


def write_damaged_bundle(target: Path) -> None:
    """Write a bundle of which one file is not what its checksum says."""
    file = write_tiny_bundle(target).file("rank.pt")
    file.write_bytes(file.read_bytes()[:-1])


def query(number: int = 0, **changes: object) -> Query:
    """A newcomer's request."""
    user = UserState({}, item_keys(()), np.empty(0, dtype=np.int64))
    made = Query(f"request{number}", user, {}, (), num=5, ts_us=0, policy=Policy(bundle="tiny"))
    return made._replace(**changes)  # type: ignore[arg-type]


@contextmanager
def loaded(folder: Path, sign: float = 1.0) -> Iterator[Funnel]:
    """The tiny bundle, in memory."""
    write_tiny_bundle(folder / "tiny", sign)
    yield Loader(folder, CPU, no_rules()).load("tiny")
