"""Prefetch: the next batch is cut out of the log while a step is made of this one."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(make: Callable[[int], Item], first: int, last: int) -> Generator[Item, None, None]:
    """Yield `make(number)` for each number in order, one made ahead by a thread.

    Args:
        make: called by one thread alone, in order; what it raises is raised here.
        first: of the numbers.
        last: one beyond them.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        if first >= last:
            return
        coming = pool.submit(make, first)
        for number in range(first + 1, last):
            item = coming.result()
            coming = pool.submit(make, number)
            yield item
        yield coming.result()
