"""Stopping: ends experiments whose guardrails are broken.

It runs in the background process, so nobody waits for it; workers follow the version it writes as
they follow any other.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from abtest.report.model import Report
from abtest.report.reasons import guard_text
from abtest.split.change import kill
from abtest.split.config import ExperimentConfig
from abtest.split.difference import differences
from abtest.split.experiment import Experiment, ExperimentError, State
from serving.experiments.store import OutdatedError, VersionStore
from serving.experiments.version import GUARDRAIL, Version

ATTEMPTS = 5
"""Others may change the experiments at the same time."""

logger = logging.getLogger(__name__)


def broken(report: Report, experiment: Experiment) -> tuple[str, ...]:
    """Why an experiment must be ended: its broken guardrails with `auto_stop`, a sentence each.

    None where it does not run, or the report tells of another revision.
    """
    if experiment.state is not State.RUNNING or report.revision != experiment.revision:
        return ()
    stopping = {rail.metric for rail in experiment.guardrails if rail.auto_stop}
    return tuple(
        guard_text(guard, report.metrics)
        for guard in report.guards
        if guard.broken and guard.effect.metric in stopping
    )


async def stop_broken(
    versions: VersionStore, reports: Sequence[Report], clock: Callable[[], datetime]
) -> tuple[str, ...]:
    """Kill the experiments whose reports show a broken guardrail, in every worker.

    Returns:
        Keys of those that were ended.

    Raises:
        redis.RedisError: the store is away; the next refresh finds the guardrail broken again.
        OutdatedError: others change the experiments all the time.
    """
    for attempt in range(ATTEMPTS):
        newest = await versions.newest()
        if newest is None:
            return ()
        why = dict(_why(reports, newest.config))
        if not why:
            return ()
        version = _killed(newest, why, clock())
        try:
            await versions.append(version, differences(newest.config, version.config))
        except OutdatedError:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        for key, words in why.items():
            logger.warning("experiment %s is ended: %s", key, words)
        return tuple(why)
    return ()


def _why(reports: Sequence[Report], config: ExperimentConfig) -> Iterator[tuple[str, str]]:
    for report in reports:
        try:
            experiment = config.experiment(report.key)
        except ExperimentError:  # a holdout, or gone
            continue
        words = broken(report, experiment)
        if words:
            yield report.key, " ".join(words)


def _killed(newest: Version, why: Mapping[str, str], at: datetime) -> Version:
    config = newest.config
    for key in why:
        config = kill(config, key)
    note = " ".join(f"{key}: {words}" for key, words in why.items())
    return newest.next(config, at=at, by=GUARDRAIL, note=note)
