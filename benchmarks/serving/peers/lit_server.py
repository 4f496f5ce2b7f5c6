"""LitServe: API processes in front of worker processes, a ZeroMQ queue between them."""

import os
from collections.abc import Sequence
from typing import Any

import litserve  # type: ignore[import-not-found]
import orjson
from fastapi import Response

from benchmarks.serving.recommender import PORT, WORKERS, from_environment

MAX_BATCH, MAX_WAIT_MS = "BENCHMARK_MAX_BATCH", "BENCHMARK_MAX_WAIT_MS"
API_SERVERS = "BENCHMARK_API_SERVERS"


class Recommend(litserve.LitAPI):  # type: ignore[misc]
    """One worker process."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the bundle."""
        self._recommender = from_environment()

    def decode_request(self, request: dict[str, Any]) -> str:
        """User of a request."""
        user: str = request["user_id"]
        return user

    def batch(self, inputs: list[str]) -> list[str]:
        """Users stay a list."""
        return inputs

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers are one."""
        return output

    def predict(self, x: str | Sequence[str]) -> dict[str, Any] | list[dict[str, Any]]:
        """One user, or a batch of users where batches are made."""
        if isinstance(x, str):
            return self._recommender.recommend([x])[0]
        return self._recommender.recommend(x)

    def encode_response(self, output: dict[str, Any]) -> Response:
        """Body of an answer, which the API process passes on as it is."""
        return Response(orjson.dumps(output), media_type="application/json")


if __name__ == "__main__":
    litserve.LitServer(
        Recommend(
            max_batch_size=int(os.environ[MAX_BATCH]),
            batch_timeout=int(os.environ[MAX_WAIT_MS]) / 1e3,
            api_path="/v1/recommend",
        ),
        accelerator="cpu",
        workers_per_device=int(os.environ[WORKERS]),
        fast_queue=True,
    ).run(
        host="127.0.0.1",
        port=int(os.environ[PORT]),
        num_api_servers=int(os.environ[API_SERVERS]),
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
