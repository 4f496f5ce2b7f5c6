"""Load: requests over keep-alive connections, each of which has one under way at any time.

One thread, raw sockets, and requests that are written down beforehand, so that the generator takes
little of the cores that it shares with the server. What it takes is reported.
"""

import gc
import itertools
import math
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

CONNECT_S = 5.0
SAMPLED = 100
"""So many bodies of a window are kept to be checked, the first of every so many answers."""
SAMPLED_EVERY = 17
_CHUNK_BYTES = 65_536
_GOOD = (200, 202)
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"


class Window(NamedTuple):
    """What happened between the end of the warm-up and the end."""

    seconds: float
    latencies_ms: list[float]
    """Of every answer with status 200 or 202, in the order in which they came."""
    errors: Mapping[str, int]
    """How often what went wrong."""
    samples: list[tuple[int, bytes]]
    """Number of the request, and the body of its answer."""
    server_cpu_s: float
    generator_cpu_s: float

    @property
    def requests_per_s(self) -> float:
        """Answers with status 200 or 202."""
        return len(self.latencies_ms) / self.seconds


class _Connection:
    """A socket, and the request that is under way on it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, CONNECT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = 0
        self.sent_s = 0.0
        self.received = b""

    def send(self, number: int, wire: bytes) -> None:
        self.request, self.received = number, b""
        self.sent_s = time.perf_counter()
        self.socket.sendall(wire)

    def receive(self) -> tuple[int, bytes] | None:
        """Status and body once the answer is whole.

        Raises:
            ConnectionError: the connection was closed, or what came is no answer with a length.
        """
        chunk = self.socket.recv(_CHUNK_BYTES)
        if not chunk:
            raise ConnectionError("closed")
        data = self.received + chunk if self.received else chunk
        head = data.find(_END_OF_HEAD)
        if head < 0 or len(data) < head + len(_END_OF_HEAD) + _body_length(data[:head]):
            self.received = data
            return None
        if not data.startswith(b"HTTP/1."):
            raise ConnectionError("not HTTP")
        return int(data[9:12]), data[head + len(_END_OF_HEAD) :]


def post(host: str, path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def drive(
    address: tuple[str, int],
    wires: Sequence[bytes],
    connections: int,
    warm_s: float,
    measured_s: float,
    server_cpu_s: Callable[[], float],
) -> Window:
    """Send requests, a new one on each connection whenever the last one is answered.

    Args:
        address: of the server.
        wires: requests, sent in turn over and over.
        connections: how many are open.
        warm_s: how long to send before anything is counted.
        measured_s: how long to count; an answer counts if it comes in this time.
        server_cpu_s: reads the CPU seconds that the server has used so far.

    Raises:
        OSError: the server takes no connections.
    """
    turns = itertools.cycle(enumerate(wires))
    with selectors.DefaultSelector() as selector, _no_collection():
        try:
            for _ in range(connections):
                _open(selector, address).send(*next(turns))
            start_s = time.perf_counter() + warm_s
            _exchange(selector, address, turns, start_s, _Count())
            count = _Count()
            cpu_s = server_cpu_s(), time.process_time()
            start_s = time.perf_counter()
            _exchange(selector, address, turns, start_s + measured_s, count)
            seconds = time.perf_counter() - start_s
            used_s = server_cpu_s() - cpu_s[0], time.process_time() - cpu_s[1]
            for key in selector.get_map().values():
                # What was sent before the window and is still under way got no answer in all of it.
                count.errors["no answer"] += key.data.sent_s < start_s
        finally:
            for key in list(selector.get_map().values()):
                key.data.socket.close()
    return Window(seconds, count.latencies_ms, +count.errors, count.samples, *used_s)


class _Count:
    def __init__(self) -> None:
        self.latencies_ms: list[float] = []
        self.errors: Counter[str] = Counter()
        self.samples: list[tuple[int, bytes]] = []

    def take(self, connection: _Connection, status: int, body: bytes) -> None:
        if status not in _GOOD:
            self.errors[f"HTTP {status}"] += 1
            return
        if len(self.latencies_ms) % SAMPLED_EVERY == 0 and len(self.samples) < SAMPLED:
            self.samples.append((connection.request, body))
        self.latencies_ms.append((time.perf_counter() - connection.sent_s) * 1e3)


def _exchange(
    selector: selectors.BaseSelector,
    address: tuple[str, int],
    turns: Iterator[tuple[int, bytes]],
    end_s: float,
    count: _Count,
) -> None:
    """Take answers and send the next requests until `end_s`."""
    while (left_s := end_s - time.perf_counter()) > 0:
        for key, _ in selector.select(left_s):
            connection: _Connection = key.data
            try:
                answer = connection.receive()
                if answer is None:
                    continue
                count.take(connection, *answer)
                connection.send(*next(turns))
            except OSError as error:
                count.errors[_reason(error)] += 1
                selector.unregister(connection.socket)
                connection.socket.close()
                _open(selector, address).send(*next(turns))


def _open(selector: selectors.BaseSelector, address: tuple[str, int]) -> _Connection:
    connection = _Connection(address)
    selector.register(connection.socket, selectors.EVENT_READ, connection)
    return connection


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _body_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(_LENGTH)
    if start < 0:
        raise ConnectionError("no content-length")
    start += len(_LENGTH)
    end = lower.find(b"\r\n", start)
    return int(lower[start:] if end < 0 else lower[start:end])


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the latencies."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
