"""Parent: the worker's side of the background process, which it starts, hears and ends."""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from serving.background.outcome import Outcome, OutcomeError, parse_outcome
from serving.background.steps import ARCHIVED_EVENTS
from serving.settings import Settings
from serving.telemetry.metrics import Metrics

RESTART_PAUSE_S = 1.0
_SECRETS = ("CASCADE_API_KEYS", "CASCADE_SIGNING_KEY")
"""Not passed on: nobody asks the process anything."""
END_S = 8.0
"""Time that the process has to end by itself; it needs less, unless the machine hangs."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def background(settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    """Keep the background process of a worker running until the end of the block."""
    stopping = asyncio.Event()
    task = asyncio.create_task(_keep_running(settings, metrics, stopping))
    try:
        yield
    finally:
        stopping.set()
        await task


async def _keep_running(settings: Settings, metrics: Metrics, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        try:
            process = await _start(settings)
        except OSError as error:
            logger.error("the background process does not start: %s", error)  # noqa: TRY400
        else:
            await _accompany(process, stopping, lambda outcome: count(outcome, metrics))
            if not stopping.is_set():
                logger.error(
                    "the background process ended with code %s; it is started again",
                    process.returncode,
                )
        if not stopping.is_set():
            metrics.background_restarts.inc()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), RESTART_PAUSE_S)


def count(outcome: Outcome, metrics: Metrics) -> None:
    """Count what a step did."""
    failed = outcome.error is not None
    metrics.background_runs.labels(outcome.step, "failed" if failed else "done").inc()
    metrics.background_seconds.labels(outcome.step).inc(outcome.seconds)
    if outcome.step == "archive":
        metrics.archive_failures.inc(failed)
        metrics.archived.inc(outcome.counts.get(ARCHIVED_EVENTS, 0))


async def _start(settings: Settings) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, **settings.as_environment()}
    return await asyncio.to_thread(
        # The event loop's own way to start a process lets it inherit descriptors that it must not
        # have: with the worker's end of the master's channel the master would wait for it.
        subprocess.Popen,
        [sys.executable, "-m", "serving.background"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in environment.items() if name not in _SECRETS},
        # A Ctrl-C in the terminal is the worker's to pass on.
        start_new_session=True,
    )


async def _accompany(
    process: "subprocess.Popen[bytes]", stopping: asyncio.Event, take: Callable[[Outcome], None]
) -> None:
    """Hear a process until it has ended, by itself or because it is told to."""
    assert process.stdin is not None
    hearing = asyncio.create_task(_hear(process, take))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait((hearing, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    process.stdin.close()
    try:
        await asyncio.to_thread(process.wait, END_S)
    except subprocess.TimeoutExpired:
        logger.error("the background process did not end; it is killed")  # noqa: TRY400
        process.kill()
        await asyncio.to_thread(process.wait)
    await hearing


async def _hear(process: "subprocess.Popen[bytes]", take: Callable[[Outcome], None]) -> None:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), process.stdout
    )
    try:
        async for line in reader:
            try:
                take(parse_outcome(line))
            except OutcomeError as error:
                logger.error("%s", error)  # noqa: TRY400  # the trace would say nothing more
    finally:
        transport.close()
