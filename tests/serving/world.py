"""A tiny world in which the right answer is certain, and a server process that serves it.

Items i1 to i40: odd ones are red, even ones blue, and a smaller number is more popular. Recall
likes the user's taste, then popularity. Ranking puts items of the user's history first, then orders
by number: descending in `baseline`, ascending in `dftopk`. The context field `mode` breaks a stage.
An item that is put into a spare row has the number of its row, and the taste of its colour.
"""
# ruff: noqa: ARG002  # a stage takes the whole request, whatever it looks at

import os
import signal
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import faiss
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from tests.serving.forked import Forked
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
from training.features import CategoricalField, FeatureSchema

N_ITEMS = 40
KEEP = 10
HISTORY_CANDIDATES = 5
SPARE_ROWS = 8
UNAVAILABLE = "i3"
COLOURS = ("red", "blue")
MODES = ("nan", "fail", "lost")
TABLES = {
    "retrieval.pt": {"vectors_RD": "retrieval.vectors_RD.npy"},
    "rank.pt": {"number_R": "rank.number_R.npy"},
}

EXPERIMENTS = """
version = 1

[defaults]
bundle = "baseline"

[[layers]]
name = "model"
unit = "user_id"
seed = "tiny"

[[layers.experiments]]
key = "dftopk-vs-baseline"
revision = 1
state = "running"
control = "baseline"
variants = [
    { name = "baseline", weight = 0.5, params = { bundle = "baseline" } },
    { name = "dftopk", weight = 0.5, params = { bundle = "dftopk" } },
]
"""


class Retrieval(nn.Module):
    """First stage: taste, then popularity."""

    vectors_RD: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.popularity_scale = 10.0 * N_ITEMS
        self.register_buffer("vectors_RD", torch.empty(0, 3))

    @torch.jit.export
    def encode_user(
        self, user: Tensor, context: Tensor, rows: Tensor, ages: Tensor, n: Tensor, snapshot: Tensor
    ) -> Tensor:
        taste = user[:, 0]
        vector = torch.stack([taste == 1, taste == 2, torch.ones_like(taste)], dim=1).float()
        return torch.where(context[:, :1] == 3, torch.full_like(vector, float("nan")), vector)

    @torch.jit.export
    def encode_items(self, rows_N: Tensor) -> Tensor:
        return self.vectors_RD[rows_N]

    @torch.jit.export
    def put_items(
        self, rows_N: Tensor, fields_NF: Tensor, price_N: Tensor, popularity_N: Tensor
    ) -> None:
        colour = fields_NF[:, 0]
        liked = popularity_N / self.popularity_scale
        self.vectors_RD[rows_N] = torch.stack([colour == 1, colour == 2, liked], dim=1).float()

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
        vector = self.encode_user(user, context, rows, ages, n, snapshot)
        return (self.vectors_RD[candidates] * vector[:, None, :]).sum(-1)


class Ranking(nn.Module):
    """Second stage: own history first, then by number."""

    number_R: Tensor

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign
        self.register_buffer("number_R", torch.empty(0))

    @torch.jit.export
    def put_items(
        self, rows_N: Tensor, fields_NF: Tensor, price_N: Tensor, popularity_N: Tensor
    ) -> None:
        self.number_R[rows_N] = rows_N.float()

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
        mode = context[:, :1]
        if bool((mode == 2).any()):
            raise RuntimeError("no scores today")
        own = (candidates[:, :, None] == rows[:, None, :]).any(-1)
        logits = self.sign * self.number_R[candidates] + 1000.0 * own.float()
        return torch.where(mode == 1, torch.full_like(logits, float("nan")), logits)


def item_embeddings() -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    number = np.arange(1, N_ITEMS + 1)
    columns = [number % 2 == 1, number % 2 == 0, (N_ITEMS - number) / (10 * N_ITEMS)]
    return np.stack(columns, axis=1).astype(np.float32)


def with_spare_rows(
    known: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]",
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """The rows of the items between those of the unknown one and the spare ones, all zeros."""
    return np.pad(known, [(1, SPARE_ROWS)] + [(0, 0)] * (known.ndim - 1))


def write_tiny_bundle(target: Path, sign: float = 1.0) -> Bundle:
    """Write the bundle of one arm."""

    def write_files(folder: Path) -> None:
        number = np.arange(1, N_ITEMS + 1)
        names = [f"i{n}" for n in number]
        table = pa.table(
            {
                ITEM_ID: names,
                PRICE_MICROS: pa.array([1_000_000] * N_ITEMS, pa.int64()),
                AVAILABLE: [name != UNAVAILABLE for name in names],
                POPULARITY: pa.array((N_ITEMS - number).astype(np.float32)),
                "colour": [COLOURS[1 - n % 2] for n in number],
            }
        )
        pq.write_table(table, folder / ITEMS)
        embeddings = item_embeddings()
        np.save(folder / EMBEDDINGS, embeddings)
        index = faiss.IndexFlatIP(embeddings.shape[1])
        index.add(embeddings)
        faiss.write_index(index, str(folder / INDEX))
        np.save(folder / TABLES["retrieval.pt"]["vectors_RD"], with_spare_rows(embeddings))
        np.save(folder / TABLES["rank.pt"]["number_R"], with_spare_rows(number.astype(np.float32)))
        torch.jit.script(Retrieval().eval()).save(str(folder / "retrieval.pt"))
        torch.jit.script(Ranking(sign).eval()).save(str(folder / "rank.pt"))

    def manifest(files: dict[str, str]) -> Manifest:
        return Manifest(
            format_version=FORMAT_VERSION,
            name=target.name,
            version="1",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            config={},
            config_sha256="0" * 64,
            data_fingerprint="tiny",
            currency="USD",
            features=FeatureSchema(
                user=(CategoricalField(name="taste", vocabulary=("red", "blue")),),
                context=(CategoricalField(name="mode", vocabulary=MODES),),
                item=(CategoricalField(name="colour", vocabulary=COLOURS),),
                history_length=8,
            ),
            stages=(
                Stage(name="retrieval", module="retrieval.pt", keep=KEEP),
                Stage(name="rank", module="rank.pt", keep=5),
            ),
            history_candidates=HISTORY_CANDIDATES,
            spare_rows=SPARE_ROWS,
            tables=TABLES,
            metrics={},
            torch_version=torch.__version__,
            faiss_version=faiss.__version__,
            files=files,
        )

    return write_bundle(target, write_files, manifest)


def write_world(data_dir: Path) -> None:
    """Lay out a data directory that can be served."""
    write_tiny_bundle(data_dir / "bundles" / "baseline", 1.0)
    write_tiny_bundle(data_dir / "bundles" / "dftopk", -1.0)
    (data_dir / "experiments.toml").write_text(EXPERIMENTS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """A real server in a process of its own."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = data_dir / "server.log"
        self._settings = settings
        self.process: Forked | None = None

    def start(self) -> None:
        environment = os.environ | {
            "CASCADE_DATA_DIR": str(self.data_dir),
            "CASCADE_PORT": str(self.port),
            "CASCADE_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
            **{f"CASCADE_{name.upper()}": value for name, value in self._settings.items()},
        }
        self.process = Forked(self.log_path, environment)
        self.wait_until_ready()

    def wait_until_ready(self, timeout_s: float = 90.0) -> None:
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log_path.read_text()
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"server is not ready:\n{self.log_path.read_text()}")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it as an operator would, its Valkey included; its exit code."""
        code = self._end(number)
        assert not (self.data_dir / "valkey" / "valkey.sock").exists()
        return code

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)
