"""Experiments file: its changes come into force while the server answers.

Every worker looks at the content itself, so that no change is missed, however quickly it follows
another.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from abtest.split.config import ExperimentConfig, parse_config
from abtest.split.experiment import ExperimentError
from serving.telemetry.metrics import Metrics
from training.bundle import BundleError

POLL_INTERVAL_S = 0.25

logger = logging.getLogger(__name__)


class ExperimentsFile:
    """Watches one file of experiments."""

    def __init__(
        self, path: Path, adopt: Callable[[ExperimentConfig], Awaitable[None]], metrics: Metrics
    ) -> None:
        """Hand what is in `path` to `adopt` at the first poll, and whenever it changed."""
        self.fault: str | None = None
        """Why the content of now is not in force; the last good one is."""
        self._path = path
        self._adopt = adopt
        self._metrics = metrics
        self._seen: bytes | None = None

    async def poll(self) -> None:
        """Look once; what is wrong with the file is kept in `fault`."""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            self._refuse(f"{self._path} cannot be read ({error.strerror}); write it again")
            self._seen = None
            return
        if content == self._seen:
            return
        self._seen = content
        try:
            await self._adopt(parse_config(_text(content, self._path), str(self._path)))
        except (ExperimentError, BundleError) as error:
            self._refuse(str(error))
        except Exception:
            self._seen = None  # not the file's fault: it is tried again
            raise
        else:
            self.fault = None

    def _refuse(self, fault: str) -> None:
        if fault == self.fault:
            return
        self.fault = fault
        self._metrics.bad_files.labels(self._path.stem).inc()
        logger.error("the experiments stay as they were: %s", fault)


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{path} is not UTF-8 ({error}); save it as UTF-8") from error
