"""Mosec: an HTTP front in Rust, and worker processes behind it that take what has queued."""

import os
from collections.abc import Sequence
from typing import Any

import orjson
from mosec import Server, Worker  # type: ignore[import-not-found]

from benchmarks.serving.recommender import WORKERS, from_environment

MAX_BATCH, MAX_WAIT_MS = "BENCHMARK_MAX_BATCH", "BENCHMARK_MAX_WAIT_MS"


class Recommend(Worker):  # type: ignore[misc]
    """One worker process."""

    def __init__(self) -> None:
        """Load the bundle."""
        self._recommender = from_environment()
        self._batched = int(os.environ[MAX_BATCH]) > 1

    def deserialize(self, data: bytes) -> str:
        """User of a request."""
        user: str = orjson.loads(data)["user_id"]
        return user

    def serialize(self, data: dict[str, Any]) -> bytes:
        """Body of an answer."""
        return orjson.dumps(data)

    def forward(self, data: str | Sequence[str]) -> dict[str, Any] | list[dict[str, Any]]:
        """One user, or a batch of users where batches are made."""
        if self._batched:
            return self._recommender.recommend(data)
        return self._recommender.recommend([str(data)])[0]


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Recommend,
        num=int(os.environ[WORKERS]),
        max_batch_size=int(os.environ[MAX_BATCH]),
        max_wait_time=int(os.environ[MAX_WAIT_MS]),
        route="/v1/recommend",
    )
    server.run()
