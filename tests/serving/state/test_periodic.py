import asyncio
import logging

import pytest

from serving.state.periodic import periodically


def test_a_failing_step_is_tried_again_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> int:
        stopping = asyncio.Event()
        turns = 0

        async def step() -> None:
            nonlocal turns
            turns += 1
            if turns in (1, 2, 4):
                raise OSError("full")
            if turns == 5:
                stopping.set()

        await asyncio.wait_for(periodically(0.001, stopping, step), 10)
        return turns

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(run()) == 5
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert all(m.endswith("step failed (OSError('full')); it is tried again") for m in messages)
