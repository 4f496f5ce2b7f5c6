"""Loopback: a server without keys is for its own machine."""

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from serving.api.key_ring import KeyRing


class MisdirectedError(RuntimeError):
    """A request that was sent to another server, or by a page of another site."""


class ExposedError(ValueError):
    """A server without keys would be reachable from other machines."""


def check_exposure(host: str, ring: KeyRing) -> None:
    """Refuse to listen beyond this machine without keys.

    Raises:
        ExposedError: the host is not a loopback one, and there is no key.
    """
    if not ring.secured() and not _is_loopback(host):
        raise ExposedError(
            f"host {host!r} can be reached from other machines, and there are no API keys; make "
            "one with `cascade keys create NAME --scope recommend --scope events`, set "
            "CASCADE_API_KEYS, or listen on 127.0.0.1"
        )


def check_local(sent: Mapping[bytes, bytes]) -> None:
    """Keep out pages in a browser on this machine, which reach what other machines cannot.

    A page whose name was made to point here (DNS rebinding) names itself in Host; one that merely
    sends requests here names itself in Origin.

    Raises:
        MisdirectedError: the request is not from and for this machine.
    """
    host = sent.get(b"host", b"").decode("latin-1")
    if not _is_here(f"//{host}"):
        raise MisdirectedError(
            f"Host {host[:100]!r} is not this machine, and without API keys nobody else is "
            "answered; ask 127.0.0.1, or make keys with `cascade keys create`"
        )
    origin = sent.get(b"origin", b"").decode("latin-1")
    if origin and not _is_here(origin):
        raise MisdirectedError(
            f"Origin {origin[:100]!r} is another site, and without API keys no page but this "
            "server's own may ask; make keys with `cascade keys create`"
        )


@lru_cache(maxsize=256)
def _is_here(address: str) -> bool:
    try:
        return _is_loopback(urlsplit(address).hostname or "")
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
