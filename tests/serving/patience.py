"""What a client does where a server, or the machine that it shares with others, is busy."""

import time
from collections.abc import Callable
from typing import Any

import httpx

PAUSE_S = 0.1
SLOW_STORE = frozenset({"features_missing", "features_stale", "log_spooled"})
"""What an answer says of a store that took its time, which on a busy machine it may."""


def answered(ask: Callable[[], httpx.Response], timeout_s: float = 40.0) -> httpx.Response:
    """The first answer that does not say to come back later: 503 does, and is asked again."""
    deadline_s = time.monotonic() + timeout_s
    while (response := ask()).status_code == 503:
        assert time.monotonic() < deadline_s, response.text
        time.sleep(PAUSE_S)
    return response


def body(ask: Callable[[], httpx.Response], status: int = 200) -> dict[str, Any]:
    """The body of that answer, whose status must be this one."""
    response = answered(ask)
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    found: dict[str, Any] = response.json()
    return found
