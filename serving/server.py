"""The server process."""

import asyncio
import logging
import os
import signal
import socket

import faiss
import torch
import uvicorn
import uvloop

from serving.app import create_app
from serving.settings import Settings

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
DRAIN_S = 10


class ServerError(RuntimeError):
    """The server cannot listen; the message names address, reason and remedy."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished first.

    Raises:
        ServerError: the address cannot be listened on.
        ExperimentError, BundleError, StoreError, ValueError: see `open_service`.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        # Threads of one small request fight each other for the cores: one process a core instead.
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
    with (
        listen(settings.host, settings.port) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(settings, listener))


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address.

    Raises:
        ServerError: it cannot be bound.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ServerError(
            f"cannot listen on {host}:{port} ({error.strerror}); "
            "choose another --port, or end the process that holds it"
        ) from error
    return listener


async def _serve(settings: Settings, listener: socket.socket) -> None:
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_S,
        )
    )
    loop = asyncio.get_running_loop()
    # While it serves, uvicorn has handlers of its own; before and after it these keep a signal from
    # ending the process with the service still open.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    # Opened here and not by uvicorn, so that what is wrong is raised instead of logged.
    async with app.router.lifespan_context(app):
        logger.info("serving %s on http://%s:%d", settings.data_dir, *listener.getsockname()[:2])
        await server.serve(sockets=[listener])
