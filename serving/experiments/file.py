"""Experiments file: its edits come into force while the server answers.

Every worker looks at the content itself, so that no edit is missed, however quickly it follows
another.
"""

import hashlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from abtest.split.config import ExperimentConfig, parse_config
from abtest.split.experiment import ExperimentError
from serving.telemetry.metrics import Metrics
from training.bundle import BundleError

POLL_INTERVAL_S = 0.25

logger = logging.getLogger(__name__)

Take = Callable[[ExperimentConfig, str, Callable[[], bool]], Awaitable[None]]
"""Takes up a configuration, the SHA-256 of its file, and a way to ask whether it still is that."""


class ExperimentsFile:
    """Watches one file of experiments."""

    def __init__(self, path: Path, take: Take, metrics: Metrics, seen: str = "") -> None:
        """Hand what is in `path` to `take` at each poll that finds it changed.

        Args:
            path: the file.
            take: takes up an edit.
            metrics: counts bad files.
            seen: SHA-256 of the content that was taken up already.
        """
        self.fault: str | None = None
        """Why the content of now is not in force; the last good one is, or what came after it."""
        self._path = path
        self._take = take
        self._metrics = metrics
        self._seen = seen
        self._last = seen

    async def poll(self) -> None:
        """Look once; what is wrong with the file is kept in `fault`.

        A content is taken up when two looks in a row find it: the first may meet an editor that has
        written half of the file, and half a file can be a valid one with fewer experiments.
        """
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self._refuse(f"{self._path} cannot be read ({error.strerror}); write it again")
            self._seen = ""
            return
        found = sha(content)
        unsettled, self._last = found != self._last, found
        if unsettled or found == self._seen:
            return
        self._seen = found
        try:
            await self._take(_parsed(content, self._path), found, lambda: self._holds(found))
        except (ExperimentError, BundleError) as error:
            self._refuse(str(error))
        except Exception:
            self._seen = ""  # not the file's fault: it is tried again
            raise
        else:
            self.fault = None

    def _holds(self, wanted: str) -> bool:
        try:
            return sha(self._path.read_bytes()) == wanted
        except OSError:
            return False

    def _refuse(self, fault: str) -> None:
        if fault == self.fault:
            return
        self.fault = fault
        self._metrics.bad_files.labels(self._path.stem).inc()
        logger.error("the experiments stay as they were: %s", fault)


def sha(content: bytes) -> str:
    """What a file's content is recognized by."""
    return hashlib.sha256(content).hexdigest()


def read_file(path: Path) -> tuple[ExperimentConfig, str]:
    """What a file says, and the SHA-256 of its content.

    Raises:
        ExperimentError: it is missing or breaks a rule.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            fault = f"{path} does not exist; write one, or run `cascade demo` to get one"
        else:
            fault = f"{path} cannot be read ({error.strerror}); write it again"
        raise ExperimentError(fault) from error
    return _parsed(content, path), sha(content)


def _parsed(content: bytes, path: Path) -> ExperimentConfig:
    try:
        return parse_config(content.decode(), str(path))
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{path} is not UTF-8 ({error}); save it as UTF-8") from error
