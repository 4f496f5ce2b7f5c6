import asyncio
from collections.abc import Sequence

import pytest

from serving.cascade.batching import Batcher


class Doubler:
    """Doubles numbers, slowly; fails on 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.running = 0
        self.release = asyncio.Event()

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.running += 1
        assert self.running == 1, "one batch at a time"
        self.batches.append(list(numbers))
        await self.release.wait()
        self.running -= 1
        if 13 in numbers:
            raise ValueError("13 brings bad luck")
        return [2 * number for number in numbers]


async def submitted(batcher: Batcher[int, int], numbers: range) -> "list[asyncio.Task[int]]":
    tasks = [asyncio.create_task(batcher.submit(number)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def _together() -> None:
    double = Doubler()
    batcher = Batcher(double, max_size=4)
    first = await submitted(batcher, range(2))
    await asyncio.sleep(0)
    while_running = await submitted(batcher, range(2, 9))
    assert len(batcher) == 7
    double.release.set()
    assert await asyncio.gather(*first, *while_running) == [2 * n for n in range(9)]
    assert double.batches == [[0, 1], [2, 3, 4, 5], [6, 7, 8]]


def test_what_came_together_or_meanwhile_runs_together_in_order() -> None:
    asyncio.run(_together())


async def _alone() -> None:
    double = Doubler()
    double.release.set()
    batcher = Batcher(double, max_size=4)
    assert await batcher.submit(5) == 10
    assert await batcher.submit(6) == 12
    assert double.batches == [[5], [6]]


def test_a_question_alone_runs_at_once() -> None:
    asyncio.run(_alone())


async def _failing() -> None:
    double = Doubler()
    double.release.set()
    batcher = Batcher(double, max_size=2)
    tasks = await submitted(batcher, range(12, 16))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(result) for result in results] == [*["13 brings bad luck"] * 2, "28", "30"]


def test_a_failure_reaches_its_own_batch_only() -> None:
    asyncio.run(_failing())


async def _gone() -> None:
    double = Doubler()
    batcher = Batcher(double, max_size=8)
    first = await submitted(batcher, range(1))
    await asyncio.sleep(0)
    waiting = await submitted(batcher, range(1, 4))
    waiting[1].cancel()
    await asyncio.sleep(0)
    double.release.set()
    assert await first[0] == 0
    assert [await waiting[0], await waiting[2]] == [2, 6]
    with pytest.raises(asyncio.CancelledError):
        await waiting[1]
    assert double.batches == [[0], [1, 3]]


def test_who_went_away_is_not_worked_for() -> None:
    asyncio.run(_gone())
