"""Ray Serve: replicas as actors, behind HAProxy, in its mode for throughput."""

import os
import signal
import tempfile

import orjson
import ray  # type: ignore[import-not-found]
from fastapi import Request, Response
from ray import serve

from benchmarks.serving.recommender import PORT, WORKERS, from_environment


class Recommend:
    """One replica."""

    def __init__(self) -> None:
        """Load the bundle."""
        self._recommender = from_environment()

    async def __call__(self, request: Request) -> Response:
        """One user, on the event loop."""
        body = orjson.loads(await request.body())
        (answer,) = self._recommender.recommend([body["user_id"]])
        return Response(orjson.dumps(answer), media_type="application/json")


def main() -> None:
    """Serve until a signal comes."""
    workers = int(os.environ[WORKERS])
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            _temp_dir=folder,
        )
        serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ[PORT])})
        deployment = serve.deployment(
            Recommend,
            num_replicas=workers,
            max_ongoing_requests=100,
            ray_actor_options={"num_cpus": 1},
        )
        serve.run(deployment.bind(), route_prefix="/v1/recommend")
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        ray.shutdown()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
