"""The load generator: what it counts is what a server saw, and nothing that goes wrong is lost."""

import json
import math
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase

import pytest

from benchmarks.serving.load import SAMPLED, Window, drive, percentile, post

Answer = Callable[[bytes, BufferedIOBase], bool]
"""Answers a request with this body; whether the connection stays open."""


class Responder:
    """A real server, a thread a connection, whose answers a test chooses."""

    def __init__(self, answer: Answer) -> None:
        self.bodies: list[bytes] = []
        self.connections: list[object] = []
        self._answer = answer

    @contextmanager
    def running(self) -> Iterator[tuple[str, int]]:
        responder = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                responder.serve(self)

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            host, port = server.server_address[:2]
            try:
                yield str(host), int(port)
            finally:
                server.shutdown()
                thread.join()

    def serve(self, handler: socketserver.StreamRequestHandler) -> None:
        self.connections.append(handler)
        try:
            while body := self._read(handler.rfile):
                self.bodies.append(body)
                if not self._answer(body, handler.wfile):
                    return
        except ConnectionError:
            return

    def _read(self, lines: BufferedIOBase) -> bytes:
        """The next body; nothing where the other side has closed the connection."""
        length = 0
        while (line := lines.readline()) and line != b"\r\n":
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return lines.read(length)


def reply(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nServer: x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def echo(body: bytes, writer: BufferedIOBase) -> bool:
    writer.write(reply(body))
    return True


def driven(
    answer: Answer, connections: int, measured_s: float = 0.3, warm_s: float = 0.05
) -> tuple[Window, Responder]:
    responder = Responder(answer)
    wires = [post("localhost", "/", json.dumps({"user": n}).encode()) for n in range(7)]
    with responder.running() as address:
        window = drive(address, wires, connections, warm_s, measured_s, lambda: 1.0)
    return window, responder


@pytest.mark.parametrize("connections", [1, 8])
def test_counts_what_the_server_answered(connections: int) -> None:
    window, responder = driven(echo, connections, warm_s=0.0)
    assert len(responder.connections) == connections
    # Of the last requests, one a connection, no answer was waited for.
    assert (
        len(window.latencies_ms) <= len(responder.bodies) <= len(window.latencies_ms) + connections
    )
    assert window.requests_per_s == len(window.latencies_ms) / window.seconds
    assert window.errors == {}
    assert window.server_cpu_s == 0.0
    assert window.generator_cpu_s > 0


def test_samples_belong_to_their_requests() -> None:
    window, _ = driven(echo, 4)
    assert 0 < len(window.samples) <= SAMPLED
    assert len({number for number, _ in window.samples}) > 1
    for number, body in window.samples:
        assert json.loads(body) == {"user": number}


def test_latency_is_what_the_server_took() -> None:
    def slow(body: bytes, writer: BufferedIOBase) -> bool:
        time.sleep(0.02)
        writer.write(reply(body))
        return True

    window, _ = driven(slow, 2)
    assert min(window.latencies_ms) >= 19.0
    assert len(window.latencies_ms) <= 2 * (window.seconds / 0.019 + 1)


def test_an_answer_may_come_in_parts() -> None:
    def in_parts(body: bytes, writer: BufferedIOBase) -> bool:
        whole = reply(body)
        for part in (whole[:10], whole[10:-3], whole[-3:]):
            writer.write(part)
            time.sleep(0.001)
        return True

    window, _ = driven(in_parts, 2)
    assert window.errors == {}
    assert all(json.loads(body) == {"user": number} for number, body in window.samples)


def test_other_statuses_are_errors_by_their_number_and_no_latencies() -> None:
    turns = iter(range(10**9))

    def refusing(body: bytes, writer: BufferedIOBase) -> bool:
        status = b"503 Service Unavailable" if next(turns) % 2 else b"200 OK"
        writer.write(reply(body, status))
        return True

    window, responder = driven(refusing, 1, warm_s=0.0)
    assert list(window.errors) == ["HTTP 503"]
    assert abs(window.errors["HTTP 503"] - len(window.latencies_ms)) <= 1
    assert window.errors["HTTP 503"] + len(window.latencies_ms) <= len(responder.bodies)


def test_a_closed_connection_is_an_error_and_opened_again() -> None:
    def closing(body: bytes, writer: BufferedIOBase) -> bool:
        writer.write(reply(body))
        return False

    window, responder = driven(closing, 2)
    assert sum(window.errors.values()) > 0
    assert set(window.errors) <= {"closed", "Connection reset by peer", "Broken pipe"}
    assert len(responder.connections) > 2


def test_an_answer_without_its_length_is_an_error() -> None:
    def endless(body: bytes, writer: BufferedIOBase) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n%b" % body[:1])
        return True

    window, _ = driven(endless, 1)
    assert set(window.errors) == {"no content-length"}
    assert window.latencies_ms == []


def test_something_else_than_http_is_an_error() -> None:
    def greeting(body: bytes, writer: BufferedIOBase) -> bool:  # noqa: ARG001
        writer.write(b"220 mail\r\ncontent-length: 0\r\n\r\n")
        return True

    window, _ = driven(greeting, 1)
    assert set(window.errors) == {"not HTTP"}


def test_silence_is_an_error() -> None:
    def silent(body: bytes, writer: BufferedIOBase) -> bool:  # noqa: ARG001
        return True

    window, _ = driven(silent, 3, measured_s=0.1)
    assert window.errors == {"no answer": 3}
    assert window.latencies_ms == []


def test_a_server_that_is_not_there_is_told_apart_from_a_slow_one() -> None:
    responder = Responder(echo)
    with responder.running() as address:
        pass
    with pytest.raises(ConnectionRefusedError):
        drive(address, [post("localhost", "/", b"{}")], 1, 0.0, 0.1, lambda: 0.0)


def test_percentiles_by_nearest_rank() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 0.5) == 3.0
    assert percentile(values, 0.6) == 3.0
    assert percentile(values, 0.61) == 4.0
    assert percentile(values, 0.99) == 5.0
    assert percentile([7.0], 0.01) == 7.0
    assert math.isnan(percentile([], 0.5))


def test_a_request_is_written_as_http() -> None:
    assert post("h", "/v1/x", b'{"a":1}') == (
        b"POST /v1/x HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
        b'content-length: 7\r\n\r\n{"a":1}'
    )
