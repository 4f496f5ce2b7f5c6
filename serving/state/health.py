"""Health: what a server that answers has to do without."""

import redis

from abtest.log.event_log import Commands, EventLog
from serving.state.feature_store import FeatureStore
from serving.telemetry.metrics import Metrics

STORE_AWAY = "store_away"
LOG_BEHIND = "log_behind"
"""Events are on the local disk that were not sent to the store yet."""


class Health:
    """Asks the store whether it is there, and the log whether it keeps up."""

    def __init__(
        self,
        quick: Commands,
        features: FeatureStore,
        log: EventLog,
        metrics: Metrics,
    ) -> None:
        """Watch a store, through a client with a short timeout, and those that need it."""
        self._quick = quick
        self._features = features
        self._log = log
        self._metrics = metrics

    async def observe(self) -> None:
        """Look now, and set the gauges."""
        await self.check()

    async def check(self) -> tuple[str, ...]:
        """Look now, and set the gauges; what is amiss, nothing if all is well."""
        try:
            await self._quick.execute_command("PING")
            up = True
            self._features.note_store_is_back()
        except redis.RedisError:
            up = False
        self._metrics.store_up.set(up)
        self._metrics.journal_bytes.set(self._log.backlog_bytes)
        found = ((STORE_AWAY, not up), (LOG_BEHIND, self._log.behind))
        return tuple(reason for reason, amiss in found if amiss)
