"""Periodic: a step that runs again and again on the event loop until the server stops."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


async def periodically(
    interval_s: float, stopping: asyncio.Event, step: Callable[[], Awaitable[None]]
) -> None:
    """Run `step` every `interval_s` seconds until `stopping` is set.

    A step that fails is tried again at its next turn. It is logged once for as long as it fails.
    """
    failing = False
    while True:
        try:
            await asyncio.wait_for(stopping.wait(), interval_s)
        except TimeoutError:
            try:
                await step()
            except Exception as error:  # a background step must not end the server
                if not failing:
                    name = getattr(step, "__qualname__", repr(step))
                    logger.warning("%s failed (%r); it is tried again", name, error)
                failing = True
            else:
                failing = False
        else:
            return
