"""Shadow: a candidate scores requests that another bundle answered; nobody sees its answers.

It scores a request once its answer has left, and only while the worker has nothing else to do.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from abtest.events import new_event_id
from serving.bundles.agreement import agreement
from serving.bundles.choice import ChoiceStore, Trial
from serving.bundles.fleet import Fleet
from serving.bundles.recording import Recording
from serving.bundles.tally import Tally
from serving.bundles.tally_store import TallyStore
from serving.cascade.funnel import Funnel
from serving.cascade.ladder import Rung
from serving.cascade.query import Outcome, Query
from serving.telemetry.metrics import Metrics
from training.bundle import BundleError

DELAY_S = 0.01
"""Between an answer and its shadow: by then the answer is on the wire."""
MAX_WAITING = 16
FLUSH_INTERVAL_S = 1.0
_SHORT_OF_WHOLE = {reason for rung in Rung for reason in rung.reason}

logger = logging.getLogger(__name__)


class NoTrialError(ValueError):
    """No candidate is tried beside a name; the message says how one is."""


class _Job(NamedTuple):
    name: str
    query: Query
    outcome: Outcome


@dataclass
class Running:
    """A candidate at work."""

    trial: Trial
    funnel: Funnel
    tally: Tally = field(default_factory=Tally)
    """What this worker found."""
    flushed: int = 0
    """Requests whose outcome is in the store."""


class Shadows:
    """The candidates that this worker tries."""

    def __init__(
        self,
        fleet: Fleet,
        store: ChoiceStore,
        tallies: TallyStore,
        recording: Recording,
        *,
        busy: Callable[[], bool],
        metrics: Metrics,
    ) -> None:
        """Nothing is tried yet.

        Args:
            fleet: loads candidates.
            store: that all workers follow.
            tallies: what all workers found.
            recording: of requests, to test candidates on before they are tried.
            busy: whether requests are under way in this worker.
            metrics: counts what happens.
        """
        self.running: dict[str, Running] = {}
        """By the name that each is tried beside."""
        self.faults: dict[str, str] = {}
        """By name, why this worker does not try the candidate that it should."""
        self._fleet = fleet
        self._store = store
        self._tallies = tallies
        self._recording = recording
        self._busy = busy
        self._metrics = metrics
        self._waiting: deque[_Job] = deque()
        self._task: asyncio.Task[None] | None = None

    async def begin(self, name: str, source: str, share: float) -> Running:
        """Try a candidate beside a served name, in the place of an earlier one, in every worker.

        Raises:
            BundleError: it cannot be loaded or failed its test; an earlier one goes on.
            redis.RedisError: the store is away; an earlier one goes on.
        """
        async with self._fleet.loading:
            funnel, _ = await self._fleet.prepare(source, self._recording.of(name))
            trial = Trial(
                trial_id=new_event_id(), source=source, share=share, since=datetime.now(UTC)
            )
            await self._store.begin(name, trial)
            self.running[name] = Running(trial, funnel)
            return self.running[name]

    async def end(self, name: str) -> tuple[Running, Tally]:
        """End a trial in every worker; what it found.

        Raises:
            NoTrialError: there is none.
            redis.RedisError: the store is away.
        """
        running, found = await self.report(name)
        await self._store.end(name)
        if self.running.get(name) is running:
            del self.running[name]
        return running, found

    async def report(self, name: str) -> tuple[Running, Tally]:
        """A trial and what all workers found in it, each to within a second.

        Raises:
            NoTrialError: there is none.
            redis.RedisError: the store is away.
        """
        if name not in self.running:
            raise NoTrialError(
                f"no candidate is tried beside {name!r}; "
                f"begin with POST /v1/bundles/{name}/shadow and a source and a share"
            )
        await self.flush()
        running = self.running[name]
        return running, await self._tallies.total(running.trial)

    async def follow(self, trials: Mapping[str, Trial]) -> None:
        """Try these candidates by name and no others, while no other bundle is being loaded.

        Raises:
            BundleError: one cannot be tried here; the others are.
        """
        wanted = {name: trial.trial_id for name, trial in trials.items()}
        self.running = {n: r for n, r in self.running.items() if wanted.get(n) == r.trial.trial_id}
        self.faults = {}
        for name in wanted.keys() - self.running.keys():
            try:
                funnel, _ = await self._fleet.prepare(trials[name].source, self._recording.of(name))
            except BundleError as error:
                self.faults[name] = str(error)
            else:
                self.running[name] = Running(trials[name], funnel)
        if self.faults:
            raise BundleError("; ".join(self.faults.values()))

    def offer(self, name: str, query: Query, outcome: Outcome) -> None:
        """Have a request that was answered scored later, if it is in the candidate's share."""
        running = self.running.get(name)
        if running is None or not in_share(query.request_id, running.trial.share):
            return
        if len(self._waiting) >= MAX_WAITING or not _SHORT_OF_WHOLE.isdisjoint(outcome.degraded):
            self._drop(name, running)
            return
        self._waiting.append(_Job(name, query, outcome))
        if self._task is None:
            self._task = asyncio.create_task(self._score_waiting())

    async def flush(self) -> None:
        """Write what this worker found since the last time to the store.

        Raises:
            redis.RedisError: the store is away; the next flush writes it all.
        """
        for running in tuple(self.running.values()):
            tally = running.tally
            requests = tally.compared + tally.failed + tally.dropped
            if requests != running.flushed:
                await self._tallies.put(running.trial, tally)
                running.flushed = requests

    async def settle(self) -> None:
        """Wait until nothing waits to be scored."""
        if self._task is not None:
            await self._task

    async def _score_waiting(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(DELAY_S)
                self._score(self._waiting.popleft())
        finally:
            self._task = None

    def _score(self, job: _Job) -> None:
        running = self.running.get(job.name)
        if running is None:
            return
        if self._busy():
            self._drop(job.name, running)
            return
        try:
            [candidate] = running.funnel.run([job.query._replace(explain=False)])
        except Exception:  # a candidate may fail in any way: that is what it is tried for
            logger.exception("%s fails in the shadow of %s", running.funnel.bundle, job.name)
            candidate = None
        if candidate is None or set(candidate.degraded) - set(job.outcome.degraded):
            running.tally.failed += 1
            self._metrics.shadow_requests.labels(job.name, "failed").inc()
            return
        found = agreement(job.outcome.item_ids, candidate.item_ids)
        candidate_us = sum(candidate.latency_us.values())
        running.tally.compare(found, sum(job.outcome.latency_us.values()), candidate_us)
        self._metrics.shadow_requests.labels(job.name, "compared").inc()
        self._metrics.shadow_overlap.labels(job.name).observe(found.overlap)
        self._metrics.shadow_seconds.labels(job.name).observe(candidate_us / 1_000_000)

    def _drop(self, name: str, running: Running) -> None:
        running.tally.dropped += 1
        self._metrics.shadow_requests.labels(name, "dropped").inc()


def in_share(request_id: str, share: float) -> bool:
    """Whether a request is among the share that a candidate scores; the same for ever."""
    return xxh3_64_intdigest(f"shadow\x1f{request_id}".encode()) < share * 2**64
