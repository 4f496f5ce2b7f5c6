"""The store: a Redis or Valkey named by URL, or the embedded one under the data directory."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from serving.settings import Settings
from serving.state.quick import QuickStore
from serving.state.valkey import EmbeddedValkey, StoreError

TIMEOUT_S = 2.0
QUICK_TIMEOUT_S = 0.05
"""For what a recommendation waits for: it is answered without, rather than late."""
MAX_CONNECTIONS = 128

_AWAY = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError)

logger = logging.getLogger(__name__)

__all__ = ["Store", "StoreError"]


class Store:
    """An open store, and clients to it.

    Clients never send a command twice by themselves: a command whose reply got lost may have been
    executed, and who sent it knows whether it may be repeated.
    """

    def __init__(
        self, settings: Settings, *, may_be_away: bool = False, may_start: bool = True
    ) -> None:
        """Open the store the settings ask for.

        Args:
            settings: name a store by URL, or the data directory of an embedded one.
            may_be_away: a named store that does not answer is used as soon as it does.
            may_start: an embedded one is started where it does not run; if not, it is used as soon
                as another process has started it.

        Raises:
            StoreError: it cannot be reached or started, or it refuses us.
        """
        self._url = settings.redis_url or ""
        self._embedded = None
        if not self._url:
            self._embedded = EmbeddedValkey(settings.valkey_dir, may_start=may_start)
        if self._url:
            self._check_external(may_be_away=may_be_away)

    def __enter__(self) -> Self:
        """The store itself, closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    def sync_client(self, timeout_s: float = 60.0) -> redis.Redis:
        """A blocking client, for work outside the request path."""
        options: dict[str, Any] = {"socket_timeout": timeout_s, "retry": Retry(NoBackoff(), 0)}
        if self._embedded is not None:
            return redis.Redis(unix_socket_path=str(self._embedded.socket_path), **options)
        return redis.Redis.from_url(self._url, **options)

    def client(self, timeout_s: float = TIMEOUT_S) -> redis.asyncio.Redis:
        """A client for the event loop that waits so long for a reply."""
        options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": AsyncRetry(NoBackoff(), 0),
            "max_connections": MAX_CONNECTIONS,
            "timeout": TIMEOUT_S,
        }
        pool = redis.asyncio.BlockingConnectionPool
        if self._embedded is not None:
            return redis.asyncio.Redis.from_pool(
                pool(
                    connection_class=redis.asyncio.UnixDomainSocketConnection,
                    path=str(self._embedded.socket_path),
                    **options,
                )
            )
        return redis.asyncio.Redis.from_pool(pool.from_url(self._url, **options))

    def quick(self) -> QuickStore | redis.asyncio.Redis:
        """What requests wait for the store with; to be used from one event loop.

        A URL that asks for more than host, database and password gets the general client.
        """
        if self._embedded is not None:
            path = str(self._embedded.socket_path)
            return QuickStore(partial(_open_unix, path), (), QUICK_TIMEOUT_S)
        parts = urlsplit(self._url)
        if parts.scheme != "redis" or parts.query or not parts.hostname:
            return self.client(QUICK_TIMEOUT_S)
        greeting: list[tuple[str, ...]] = []
        if parts.password:
            user = (unquote(parts.username),) if parts.username else ()
            greeting.append(("AUTH", *user, unquote(parts.password)))
        if parts.path.strip("/"):
            greeting.append(("SELECT", parts.path.strip("/")))
        open_connection = partial(_open_tcp, parts.hostname, parts.port or 6379)
        return QuickStore(open_connection, greeting, QUICK_TIMEOUT_S)

    def revive(self) -> bool:
        """Start the embedded Valkey again if it died; whether it was started.

        Raises:
            StoreError: it does not start.
        """
        return self._embedded is not None and self._embedded.revive()

    def close(self) -> None:
        """Stop the embedded Valkey if this process owns it."""
        if self._embedded is not None:
            self._embedded.close()

    def _check_external(self, *, may_be_away: bool) -> None:
        try:
            with self.sync_client(timeout_s=5.0) as client:
                client.ping()
                _warn_of_weak_durability(client)
        except _AWAY as error:
            if not may_be_away or isinstance(error, redis.AuthenticationError):
                raise self._unusable(error) from error
            logger.warning("store %s is away (%s)", _without_password(self._url), error)
        except (ValueError, redis.RedisError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(
            f"store {_without_password(self._url)} cannot be used ({error}); "
            "CASCADE_REDIS_URL must name a running Redis or Valkey, as redis://host:6379/0"
        )


async def _open_unix(path: str, protocol: Callable[[], asyncio.Protocol]) -> object:
    return await asyncio.get_running_loop().create_unix_connection(protocol, path)


async def _open_tcp(host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> object:
    return await asyncio.get_running_loop().create_connection(protocol, host, port)


def _warn_of_weak_durability(client: redis.Redis) -> None:
    try:
        found: Any = client.config_get("append*")
    except redis.ResponseError:
        logger.warning("the store does not tell whether it syncs acknowledged events to disk")
        return
    if found.get("appendonly") != "yes":
        logger.warning("the store has appendonly=no: its restart loses acknowledged events")
    elif found.get("appendfsync") == "no":
        logger.warning(
            "the store has appendfsync=no: a power cut loses what it took in its last half minute"
        )


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
        where = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "at an unreadable URL"
    return f"{parts.scheme}://{where}{parts.path}"
