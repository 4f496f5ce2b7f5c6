"""Catalog: which bundle answers under which name, changed while requests are answered.

A bundle is loaded and tested beside the one that answers; then the lineup is replaced, which is one
assignment. Requests that took the old lineup finish with it, and with the last of them the old
bundle is freed.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from abtest.events import new_event_id
from abtest.split.config import ExperimentConfig
from abtest.split.splitter import Splitter
from serving.bundles.choice import Choice, ChoiceStore, remember
from serving.bundles.fleet import Fleet
from serving.bundles.lineup import Lineup, check_sources, names_served
from serving.bundles.recording import Recording
from serving.bundles.selftest import Passed
from serving.bundles.shadow import Shadows
from serving.cascade.funnel import Funnel
from serving.cascade.line import Line
from serving.cascade.policy import check_policies
from serving.telemetry.metrics import Metrics
from training.bundle import BundleError

logger = logging.getLogger(__name__)


class UnknownBundleError(ValueError):
    """No bundle is served under a name; the message names those that are."""


class Served(NamedTuple):
    """What answers under one name."""

    line: Line
    choice: Choice
    since: datetime
    """When this worker began to answer with it."""


class Activation(NamedTuple):
    """What an activation did."""

    before: Served
    now: Served
    tested: Passed
    took_ms: float


async def _nothing() -> None:
    """Nothing to commit."""


class Catalog:
    """The bundles of one worker."""

    def __init__(
        self,
        config: ExperimentConfig,
        funnels: Mapping[str, Funnel],
        choices: Mapping[str, Choice],
        *,
        fleet: Fleet,
        store: ChoiceStore,
        shadows: Shadows,
        recording: Recording,
        make_line: Callable[[Funnel], Line],
        memory: Path,
        metrics: Metrics,
    ) -> None:
        """Serve what `load_named` loaded.

        Args:
            config: the experiments.
            funnels: the bundle of each name.
            choices: the folders that were activated, by name.
            fleet: loads further bundles.
            store: that all workers follow.
            shadows: candidates beside the bundles.
            recording: of requests, to test bundles on.
            make_line: the line of requests in front of a bundle.
            memory: file in which choices are repeated.
            metrics: counts what happens.
        """
        self.shadows = shadows
        self.faults: dict[str, str] = {}
        """By name, why this worker does not answer with what was activated."""
        self._choices = dict(choices)
        self._fleet = fleet
        self._store = store
        self._recording = recording
        self._make_line = make_line
        self._memory = memory
        self._metrics = metrics
        self.served = {name: self._serve(name, funnel) for name, funnel in funnels.items()}
        self.lineup = Lineup(Splitter(config), self._lines())
        """Taken once by each request, and used to its end."""

    async def activate(self, name: str, source: str) -> Activation:
        """Answer under a name from another folder, here at once and soon in every worker.

        Raises:
            UnknownBundleError: nothing is served under the name.
            BundleError: the bundle cannot be loaded or failed its test; the old one answers on.
            redis.RedisError: the store is away; the old one answers on.
        """
        self.require(name)
        async with self._fleet.loading:
            started_ns = time.perf_counter_ns()
            try:
                funnel, tested = await self._fleet.prepare(source, self._recording.of(name))
            except BundleError:
                self._metrics.bundle_swaps.labels(name, "refused").inc()
                raise
            trial = self.shadows.running.get(name)
            ends_trial = trial is not None and trial.trial.source == source
            choice = Choice(source=source, activation=new_event_id(), since=datetime.now(UTC))
            await self._store.choose(name, choice, end_trial=ends_trial)
            before = self._swap(name, funnel, choice, "activated")
            if ends_trial:
                self.shadows.running.pop(name, None)
            self._remember()
            took_ms = (time.perf_counter_ns() - started_ns) / 1_000_000
            return Activation(before, self.served[name], tested, took_ms)

    async def follow(self) -> None:
        """Bring this worker to what the store says was chosen, by whichever worker.

        Raises:
            BundleError: a bundle cannot be served here; the old one answers on.
            redis.RedisError: the store is away.
        """
        async with self._fleet.loading:
            self._choices, trials = await self._store.read()
            self._remember()
            failures = []
            for name, choice in self._choices.items():
                served = self.served.get(name)
                if served is None or served.choice.activation == choice.activation:
                    continue
                try:
                    funnel, _ = await self._fleet.prepare(choice.source, self._recording.of(name))
                except BundleError as error:
                    self.faults[name] = f"{choice.source!r} was activated, but: {error}"
                    self._metrics.bundle_swaps.labels(name, "failed").inc()
                    failures.append(error)
                else:
                    self._swap(name, funnel, choice, "followed")
            await self.shadows.follow(trials)
            if failures:
                raise failures[0]

    async def adopt(
        self, config: ExperimentConfig, commit: Callable[[], Awaitable[None]] = _nothing
    ) -> None:
        """Split traffic by another configuration, with the bundles that it adds.

        Args:
            config: the configuration.
            commit: awaited once all is loaded; if it raises, everything stays as it was.

        Raises:
            ExperimentError: it sets parameters wrongly, or names a bundle that is not there.
            BundleError: a bundle that it adds cannot be served.
        """
        async with self._fleet.loading:
            if config.sha == self.lineup.splitter.config_sha:
                await commit()
                return
            prepared = await self._added(config)
            splitter = Splitter(config)
            await commit()
            names = names_served(config)
            for name in self.served.keys() - set(names):
                self._metrics.bundle_info.labels(name, self.served[name].line.funnel.bundle).set(0)
            self.served = {
                name: self._serve(name, prepared[name]) if name in prepared else self.served[name]
                for name in names
            }
            self.faults = {name: f for name, f in self.faults.items() if name in self.served}
            self.lineup = Lineup(splitter, self._lines())

    async def try_out(self, config: ExperimentConfig) -> None:
        """Load the bundles that a configuration adds, and let go of them.

        Raises:
            ExperimentError, BundleError: as `adopt`.
        """
        async with self._fleet.loading:
            await self._added(config)

    async def _added(self, config: ExperimentConfig) -> dict[str, Funnel]:
        """The bundles that a configuration names and that are not served, ready to be."""
        names = names_served(config)
        check_policies(config)
        sources = {name: self._choice(name).source for name in names if name not in self.served}
        check_sources(sources.values(), self._fleet.loader)
        return {n: (await self._fleet.prepare(s, ()))[0] for n, s in sources.items()}

    def require(self, name: str) -> Served:
        """What answers under a name.

        Raises:
            UnknownBundleError: nothing does.
        """
        if name not in self.served:
            raise UnknownBundleError(
                f"no bundle is served as {name!r}, there are {sorted(self.served)}; "
                "name it in experiments.toml first"
            )
        return self.served[name]

    def _swap(self, name: str, funnel: Funnel, choice: Choice, outcome: str) -> Served:
        before = self.served[name]
        self._choices[name] = choice
        self.served[name] = self._serve(name, funnel)
        self.lineup = self.lineup._replace(lines=self._lines())
        self.faults.pop(name, None)
        self._metrics.bundle_swaps.labels(name, outcome).inc()
        old, new = before.line.funnel.bundle, funnel.bundle
        if old != new:
            self._metrics.bundle_info.labels(name, old).set(0)
        logger.info("%s: %s answers in the place of %s (%s)", name, new, old, outcome)
        return before

    def _serve(self, name: str, funnel: Funnel) -> Served:
        self._metrics.bundle_info.labels(name, funnel.bundle).set(1)
        return Served(self._make_line(funnel), self._choice(name), datetime.now(UTC))

    def _choice(self, name: str) -> Choice:
        return self._choices.get(name) or Choice(source=name)

    def _lines(self) -> dict[str, Line]:
        return {name: served.line for name, served in self.served.items()}

    def _remember(self) -> None:
        try:
            remember(self._memory, self._choices)
        except OSError as error:  # the store has it; the file is for a start without the store
            logger.warning("%s cannot be written (%s)", self._memory, error)
