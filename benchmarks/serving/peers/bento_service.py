"""BentoML: uvicorn workers, each with the recommender in it."""

import os
from typing import Any

import bentoml  # type: ignore[import-not-found]

from benchmarks.serving.recommender import WORKERS, from_environment


@bentoml.service(
    workers=int(os.environ[WORKERS]),
    threads=1,
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    monitoring={"enabled": False},
)
class Recommend:
    """One worker."""

    def __init__(self) -> None:
        """Load the bundle."""
        self._recommender = from_environment()

    @bentoml.api(route="/v1/recommend")  # type: ignore[untyped-decorator]
    async def recommend(self, user_id: str, num: int) -> dict[str, Any]:  # noqa: ARG002
        """One user, on the event loop."""
        return self._recommender.recommend([user_id])[0]
