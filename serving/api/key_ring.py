"""Key ring: the keys in force.

The file is watched, so a revoked key is refused within a second.
"""

import hmac
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from serving.api.keys import ApiKey, KeysError, distinct, hashed, read_keys

RELOAD_INTERVAL_S = 0.5

logger = logging.getLogger(__name__)


class KeyRing:
    """The keys in force: those of the environment, and those of a file that may change."""

    def __init__(
        self,
        path: Path,
        fixed: Iterable[ApiKey],
        clock: Callable[[], float],
        count_bad_file: Callable[[], None],
    ) -> None:
        """Watch a file beside fixed keys.

        Args:
            path: of the keys file, which need not exist.
            fixed: keys that stay as long as the process.
            clock: monotonic seconds.
            count_bad_file: called when the file has changed and cannot be used.

        Raises:
            KeysError: the file is wrong.
        """
        self._path = path
        self._fixed = tuple(fixed)
        self._clock = clock
        self._count_bad_file = count_bad_file
        self._stamp = _stamp(path)
        self._look_again_s = clock() + RELOAD_INTERVAL_S
        self._secured = False
        self._hold(read_keys(path))

    def secured(self) -> bool:
        """Whether a key is needed. Once one was, it stays so: revoking the last opens nothing."""
        self._follow()
        return self._secured

    def find(self, token: str) -> ApiKey | None:
        """The key with a token."""
        self._follow()
        digest = hashed(token)
        # Found by a part of the hash, which nobody can choose; told apart in constant time.
        key = self._by_prefix.get(digest[:16])
        if key is None or not hmac.compare_digest(key.sha256, digest):
            return None
        return key

    def _follow(self) -> None:
        now_s = self._clock()
        if now_s < self._look_again_s:
            return
        self._look_again_s = now_s + RELOAD_INTERVAL_S
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._hold(read_keys(self._path))
        except KeysError as error:
            self._count_bad_file()
            logger.error("the keys stay as they were: %s", error)  # noqa: TRY400  # no trace needed
        else:
            logger.info("%s has changed: %d keys are in force", self._path, len(self._by_prefix))

    def _hold(self, kept: tuple[ApiKey, ...]) -> None:
        keys = distinct((*self._fixed, *kept), f"CASCADE_API_KEYS and {self._path}")
        self._by_prefix = {key.sha256[:16]: key for key in keys}
        self._secured = self._secured or bool(keys)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
