"""FastAPI and nothing else: one thread a process, computed on the event loop, JSON by orjson."""

import os

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.serving.recommender import PORT, WORKERS, from_environment


def create_app() -> FastAPI:
    """The application of one worker."""
    recommender = from_environment()
    app = FastAPI()

    @app.post("/v1/recommend")
    async def recommend(request: Request) -> Response:
        body = orjson.loads(await request.body())
        (answer,) = recommender.recommend([body["user_id"]])
        return Response(orjson.dumps(answer), media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(
        f"{__spec__.name}:create_app",
        factory=True,
        host="127.0.0.1",
        port=int(os.environ[PORT]),
        workers=int(os.environ[WORKERS]),
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="warning",
    )
