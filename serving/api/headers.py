"""Headers of every response: a browser is to load, frame, cache and pass on nothing by itself.

Not among them is `Strict-Transport-Security`: it belongs to what ends TLS in front of the server.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Header = tuple[bytes, bytes]

_ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_DATA_POLICY = b"default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
"""Of pages: scripts and requests of this server only; styles may be inline, as charts have them."""
_CACHE, _POLICY, _TYPE = b"cache-control", b"content-security-policy", b"content-type"
_DATA = (*_ALWAYS, (_CACHE, b"no-store"), (_POLICY, _DATA_POLICY))
_PAGE = (*_ALWAYS, (_CACHE, b"no-store"), (_POLICY, PAGE_POLICY))
_NAMES = frozenset(name for name, _ in _DATA)


class HeadersMiddleware:
    """Adds the headers to every response that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with the headers added."""

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = secured(message.get("headers", ()))
            await send(message)

        await self._app(scope, receive, send_secured)


def secured(headers: "list[Header] | tuple[Header, ...]") -> list[Header]:
    """The headers of a response, and those of the table above that it has not set.

    Examples:
        >>> dict(secured([(b"cache-control", b"max-age=60")]))[b"cache-control"]
        b'max-age=60'
    """
    sent = dict(headers)
    added = _PAGE if sent.get(_TYPE, b"").startswith(b"text/html") else _DATA
    if sent.keys().isdisjoint(_NAMES):  # as nearly always, and the quick way
        return [*headers, *added]
    return [*headers, *(header for header in added if header[0] not in sent)]
