"""Fleet: every bundle that this worker holds in memory, from its load until it is freed."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import ParamSpec, TypeVar

import faiss

from serving.bundles.loading import Loader
from serving.bundles.recording import Recorded
from serving.bundles.selftest import Passed, self_test
from serving.cascade.funnel import Funnel
from serving.telemetry.metrics import Metrics

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
CatchUp = Callable[[Funnel], Awaitable[None]]


class Fleet:
    """Brings bundles into service and notices when they are gone.

    Nothing here keeps a bundle alive: it is freed when the last request that holds it ends.
    """

    def __init__(self, loader: Loader, catch_up: CatchUp, metrics: Metrics) -> None:
        """Load with `loader`; `catch_up` brings a funnel's items to their state of now."""
        self.loader = loader
        self._catch_up = catch_up
        self._metrics = metrics
        self._held: list[weakref.ref[Funnel]] = []
        self.loading = asyncio.Lock()
        """Held while a bundle is brought into service: one at a time, for the sake of memory."""

    def funnels(self) -> dict[str, Funnel]:
        """All funnels that answer, score in the shadow, or finish their last requests.

        What changes items changes them in each of these.

        Returns:
            By `name@version`; a second one of the same has a number behind it.
        """
        found: dict[str, Funnel] = {}
        for funnel in filter(None, (ref() for ref in self._held)):
            twins = sum(other.bundle == funnel.bundle for other in found.values())
            found[f"{funnel.bundle}#{twins + 1}" if twins else funnel.bundle] = funnel
        return found

    async def enlist(self, funnel: Funnel) -> None:
        """Take in a funnel that no request uses yet, its items brought up to date."""
        self._held.append(weakref.ref(funnel))
        self._metrics.bundles_loaded.inc()
        await self._catch_up(funnel)

    async def prepare(self, source: str, recorded: Sequence[Recorded]) -> tuple[Funnel, Passed]:
        """A funnel from disk that has passed its self-test; the loop answers meanwhile.

        Raises:
            BundleError: it is not there, damaged, or failed the test.
        """
        funnel = await asyncio.to_thread(_on_one_core, self.loader.load, source)
        # Tested with the availability of now, in a thread, while nobody else can reach it.
        await self._catch_up(funnel)
        tested = await asyncio.to_thread(_on_one_core, self_test, funnel, recorded)
        await self.enlist(funnel)
        return funnel, tested

    async def sweep(self) -> None:
        """Count the funnels that were freed since the last time."""
        alive = [ref for ref in self._held if ref() is not None]
        self._metrics.bundles_freed.inc(len(self._held) - len(alive))
        self._held = alive


def _on_one_core(
    work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    # FAISS counts threads by thread: a new one would take every core from the requests.
    faiss.omp_set_num_threads(1)
    return work(*args, **kwargs)
