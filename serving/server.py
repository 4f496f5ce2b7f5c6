"""The server: one process that answers, or several behind one address."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial

import faiss
import torch
import uvicorn
import uvloop

from serving.app import create_app
from serving.settings import Settings

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
DRAIN_S = 10
READY = b"R"
"""What a worker says to its master when it can answer."""
_MAX_FDS = 16
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 256 << 20


class ServerError(RuntimeError):
    """The server cannot listen; the message names address, reason and remedy."""


def run(settings: Settings) -> None:
    """Serve from this process until SIGTERM or SIGINT; requests under way are finished first.

    Raises:
        ServerError: the address cannot be listened on.
        ExperimentError, BundleError, StoreError, ValueError: see `open_service`.
    """
    _tune()
    with (
        listen(settings.host, settings.port) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(settings, listener))


def run_worker(settings: Settings, master: socket.socket) -> None:
    """Serve connections that a master passes on, until a signal, or until the master is gone.

    Raises:
        ExperimentError, BundleError, StoreError, ValueError: see `open_service`.
    """
    _tune()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(settings, master))


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
    server = _server(app)
    # Opened here and not by uvicorn, so that what is wrong is raised instead of logged.
    async with app.router.lifespan_context(app):
        _settle()
        logger.info("serving %s on http://%s:%d", settings.data_dir, *listener.getsockname()[:2])
        await server.serve(sockets=[listener])


async def _work(settings: Settings, master: socket.socket) -> None:
    app = create_app(settings)
    server = _server(app)
    loop = asyncio.get_running_loop()
    async with app.router.lifespan_context(app):
        _settle()
        master.setblocking(False)
        loop.add_reader(master, partial(_take_connections, server, master))
        with suppress(ConnectionError):  # a master that is gone is noticed by what it does not send
            master.send(READY)
        await server.serve(sockets=[])
        loop.remove_reader(master)


def _take_connections(server: uvicorn.Server, master: socket.socket) -> None:
    """Serve the connections whose descriptors have arrived."""
    try:
        message, descriptors, _, _ = socket.recv_fds(master, _MAX_FDS, _MAX_FDS)
    except BlockingIOError:
        return
    except ConnectionError:  # the master was killed before it had read what we sent
        message, descriptors = b"", []
    loop = asyncio.get_running_loop()
    if not message:
        loop.remove_reader(master)
        server.handle_exit(signal.SIGTERM, None)
    for descriptor in descriptors:
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        task = loop.create_task(_adopt(server, connection))
        server.server_state.tasks.add(task)
        task.add_done_callback(server.server_state.tasks.discard)


async def _adopt(server: uvicorn.Server, connection: socket.socket) -> None:
    def protocol() -> asyncio.Protocol:
        # As uvicorn makes it for a connection that it accepts itself.
        return server.config.http_protocol_class(  # type: ignore[call-arg]
            config=server.config, server_state=server.server_state, app_state={}
        )

    await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)


def _server(app: object) -> uvicorn.Server:
    server = uvicorn.Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            http="httptools",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            # Nobody in between is trusted to say who asks.
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_S,
        )
    )
    loop = asyncio.get_running_loop()
    # While it serves, uvicorn has handlers of its own; before and after it these keep a signal from
    # ending the process with the service still open.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    return server


def _settle() -> None:
    """Let the garbage collector pass over what was loaded, which stays: it is large."""
    gc.collect()
    gc.freeze()


def _tune() -> None:
    if "OMP_NUM_THREADS" not in os.environ:
        # Threads of one small request fight each other for the cores: one process a core instead.
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
    if sys.platform == "linux":
        # The activations of a request are a few megabytes. By default glibc maps and unmaps them,
        # and the kernel clears every page again; kept in the heap they are there already.
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
