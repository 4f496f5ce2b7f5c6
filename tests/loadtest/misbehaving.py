"""A tiny server that answers like a cascade server, as well or as badly as a test wants."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any, NamedTuple

Headers = Mapping[str, str]
Body = Mapping[str, Any]


class Reply(NamedTuple):
    status: int
    body: Body | bytes
    headers: Headers = MappingProxyType({})


@dataclass
class Asked:
    """What the server was asked for."""

    headers: list[Headers] = field(default_factory=list)
    bodies: list[tuple[str, Body]] = field(default_factory=list)


def recommendation(num: int, **changes: object) -> dict[str, Any]:
    """A good answer, but for the changes."""
    items = [{"item_id": f"i{n}", "position": n, "score": 1.0 - n} for n in range(num)]
    answer = {"request_id": "r", "items": items, "experiments": [], "bundle": "b@1", "degraded": []}
    return {**answer, **changes}


def good(path: str, body: Body, number: int) -> Reply:  # noqa: ARG001
    if path == "/v1/recommend":
        return Reply(200, recommendation(body["num"]))
    if path == "/v1/events":
        return Reply(202, {"accepted": len(body["events"]), "duplicates": 0, "rejected": []})
    if path.endswith("/interactions"):
        return Reply(200, {"appended": len(body["interactions"])})
    return Reply(200, {"status": "ready"})


@contextmanager
def misbehaving(
    reply: Callable[[str, Body, int], Reply] = good, *, every_s: float = 0.0, frozen_s: float = 0.0
) -> Iterator[tuple[str, Asked]]:
    """Its address, and what it is asked for.

    Args:
        reply: makes the answer to a path, a body and the number of the recommendation.
        every_s: how often it freezes; 0 is never.
        frozen_s: for how long.
    """
    asked, numbers = Asked(), count()
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                path = lines[0].split()[1]
                pairs = (line.split(": ", 1) for line in lines[1:] if line)
                headers = {name.lower(): value for name, value in pairs}
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                body = json.loads(content or b"{}")
                asked.headers.append(headers)
                asked.bodies.append((path, body))
                number = next(numbers) if path == "/v1/recommend" else -1
                writer.write(rendered(reply(path, body, number)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def freeze() -> None:
        while every_s:
            await asyncio.sleep(every_s - frozen_s)
            time.sleep(frozen_s)

    async def run() -> None:
        tasks.append(asyncio.current_task())
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        async with server:
            await asyncio.gather(freeze(), server.serve_forever())

    tasks: list[asyncio.Task[None] | None] = []
    ports: list[int] = []
    started = threading.Event()
    thread = threading.Thread(target=_run, args=(loop, run()))
    thread.start()
    try:
        assert started.wait(10)
        yield f"http://127.0.0.1:{ports[0]}", asked
    finally:
        assert tasks[0] is not None
        loop.call_soon_threadsafe(tasks[0].cancel)
        thread.join(10)


def _run(loop: asyncio.AbstractEventLoop, main: Coroutine[object, object, None]) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            runner.run(main)
        except asyncio.CancelledError:
            return


def rendered(reply: Reply) -> bytes:
    content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content))}
    lines = [f"{name}: {value}" for name, value in {**headers, **reply.headers}.items()]
    return "\r\n".join([f"HTTP/1.1 {reply.status} X", *lines, "", ""]).encode() + content
