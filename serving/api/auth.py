"""Auth: which caller a request is of, and whether that caller may ask it."""

from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.key_ring import KeyRing
from serving.api.keys import ADMIN, EVENTS, EXPERIMENTS, METRICS, RECOMMEND
from serving.api.loopback import MisdirectedError, check_local
from serving.api.rate_limit import RateLimiter, RateLimitError

CALLER = "caller"
"""Name in the ASGI scope's `state` under which the `Caller` of an admitted request is."""

OPEN = ""
_ANY = "*"

TABLE: Mapping[str, Mapping[str, str]] = {
    "/": {"GET": OPEN},
    "/dashboard/": {"GET": OPEN},
    "/healthz": {_ANY: OPEN},
    "/readyz": {_ANY: OPEN},
    "/docs": {_ANY: OPEN},
    "/docs/": {_ANY: OPEN},
    "/openapi.json": {_ANY: OPEN},
    "/metrics": {_ANY: METRICS},
    "/v1/recommend": {"POST": RECOMMEND},
    "/v1/recommend/": {"POST": RECOMMEND},
    "/v1/events": {"POST": EVENTS},
    "/v1/users/": {"PUT": EVENTS, "POST": EVENTS},
    "/v1/caller": {"GET": EXPERIMENTS},
    "/v1/experiments": {"GET": EXPERIMENTS},
    "/v1/experiments/": {"GET": EXPERIMENTS},
}
"""Path -> method -> the scope it needs. A path that ends in a slash is one with all below it, `/`
excepted; what is not in the table needs `admin`, so that a route nobody thought of is closed."""

_PREFIXES = tuple(path for path in TABLE if path.endswith("/") and path != "/")


class UnauthorizedError(RuntimeError):
    """No key was sent, or one that is not in force."""


class ForbiddenError(RuntimeError):
    """The key is good, but not for this."""


_REASONS: Mapping[type[Exception], str] = {
    UnauthorizedError: "unauthorized",
    ForbiddenError: "forbidden",
    MisdirectedError: "misdirected",
    RateLimitError: "rate",
}


class Caller(NamedTuple):
    """Who sent a request."""

    name: str
    """Of its key; where there are no keys, its address."""
    scopes: frozenset[str]
    rate_per_s: float | None
    """Requests a second it is good for; None for no limit."""

    def may(self, needed: str) -> bool:
        """Whether its scopes include one."""
        return needed in self.scopes or ADMIN in self.scopes


NOBODY = Caller("nobody", frozenset(), None)
"""Who asks what is open."""
LOCAL = "local"
_ALL = frozenset({ADMIN})
"""Scopes of who asks a server without keys, which listens on its own machine only."""


def needed_scope(method: str, path: str) -> str:
    """The scope a request needs; `OPEN` if none.

    Examples:
        >>> needed_scope("POST", "/v1/events"), needed_scope("DELETE", "/v1/users/u1")
        ('events', 'admin')
    """
    by_method = TABLE.get(path)
    if by_method is None:
        by_method = next((TABLE[p] for p in _PREFIXES if path.startswith(p)), {})
    return by_method.get(method, by_method.get(_ANY, ADMIN))


def require(scope: Scope, needed: str) -> None:
    """Check that the caller of an admitted request has a scope, for what its body asks.

    Raises:
        ForbiddenError: it has not.
    """
    caller: Caller = scope["state"][CALLER]
    if not caller.may(needed):
        raise ForbiddenError(
            f"key {caller.name!r} has no scope {needed!r}; leave out what needs it, "
            "or use a key that has it"
        )


class Guard:
    """Admits requests, or says why not."""

    def __init__(
        self,
        ring: KeyRing,
        limiter: RateLimiter,
        *,
        rate_per_s: float | None,
        address_rate_per_s: float | None,
    ) -> None:
        """Guard with the keys of a ring.

        Args:
            ring: the keys in force.
            limiter: the buckets of this worker.
            rate_per_s: of a key that has no rate of its own; None for no limit.
            address_rate_per_s: of a client address where no keys are needed; None for no limit.
        """
        self._ring = ring
        self._limiter = limiter
        self._key_rate = rate_per_s
        self._address_rate = address_rate_per_s

    def secured(self) -> bool:
        """Whether an API key is needed."""
        return self._ring.secured()

    def admit(self, scope: Scope) -> Caller:
        """The caller of a request that may be answered, charged with one request.

        Raises:
            UnauthorizedError, ForbiddenError: no key, or not one for this.
            MisdirectedError: without keys, a request that is not from and for this machine.
            RateLimitError: the caller asked too much.
        """
        sent = {name: value for name, value in scope["headers"] if name in _LOOKED_AT}
        if not self._ring.secured():
            check_local(sent)
            client = scope.get("client")
            return self._charged(Caller(client[0] if client else LOCAL, _ALL, self._address_rate))
        needed = needed_scope(scope["method"], scope["path"])
        if needed == OPEN:
            return NOBODY
        key = self._ring.find(_token(sent.get(b"authorization", b"")))
        if key is None:
            raise UnauthorizedError(
                "the API key is not in force; make one with `cascade keys create`"
            )
        caller = Caller(key.name, key.scopes, key.rate_per_s or self._key_rate)
        if not caller.may(needed):
            raise ForbiddenError(
                f"{scope['method']} {scope['path']} needs scope {needed!r}, and key {key.name!r} "
                f"has {', '.join(sorted(key.scopes))}; use a key that has it"
            )
        return self._charged(caller)

    def charge(self, scope: Scope, cost: int) -> None:
        """Charge the caller of an admitted request with `cost` more, for what its body asks.

        Raises:
            RateLimitError: the caller asked too much.
        """
        self._charged(scope["state"][CALLER], cost)

    def _charged(self, caller: Caller, cost: int = 1) -> Caller:
        if caller.rate_per_s is not None:
            self._limiter.take(caller.name, caller.rate_per_s, cost)
        return caller


class GuardMiddleware:
    """Puts the caller into the state of every request that is admitted."""

    def __init__(self, app: ASGIApp, guard: Guard, refused: Counter) -> None:
        """Wrap `app`, and count the requests that are refused by their reason."""
        self._app = app
        self._guard = guard
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an admitted request on.

        Raises:
            UnauthorizedError, ForbiddenError, MisdirectedError, RateLimitError: see `Guard.admit`.
        """
        if scope["type"] == "http":
            try:
                caller = self._guard.admit(scope)
            except tuple(_REASONS) as error:
                self._refused.labels(_REASONS[type(error)]).inc()
                raise
            scope.setdefault("state", {})[CALLER] = caller
        await self._app(scope, receive, send)


_LOOKED_AT = frozenset({b"authorization", b"host", b"origin"})


def _token(authorization: bytes) -> str:
    if not authorization:
        raise UnauthorizedError("an API key is needed; send `Authorization: Bearer KEY`")
    kind, _, token = authorization.decode("latin-1").partition(" ")
    if kind.lower() != "bearer":
        raise UnauthorizedError(f"Authorization is of kind {kind[:20]!r}; send `Bearer KEY`")
    return token.strip()
