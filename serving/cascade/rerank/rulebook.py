"""Rulebook: the rules in force, which follow their file while the server answers.

Every worker looks at the content itself, so that no change is missed, however quickly it follows
another.
"""

import asyncio
import logging
from pathlib import Path

from serving.cascade.rerank.rules import Rules, RulesError, parse_rules
from serving.telemetry.metrics import Metrics

POLL_INTERVAL_S = 0.25

logger = logging.getLogger(__name__)


class Rulebook:
    """Holds the rules of one file; where there is no file there are no rules."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        """Read the rules for the first time.

        Raises:
            RulesError: the file is there and breaks a rule.
        """
        self.fault: str | None = None
        """Why the content of now is not in force; the last good one is."""
        self._path = path
        self._metrics = metrics
        self._applied = self._seen = _content(path)
        self.rules = _parsed(self._applied, path)
        """Only ever replaced as a whole."""

    async def poll(self) -> None:
        """Look once; what is wrong with the file is kept in `fault`."""
        try:
            found = _content(self._path)
        except RulesError as error:
            self._refuse(error)
            return
        # Editors may take a file away for a moment: it is gone when it is missed twice in a row.
        missed_once = found is None and self._seen is not None
        self._seen = found
        if missed_once or found == self._applied:
            return
        self._applied = found
        try:
            # A long file takes a while, and answers must not wait for it.
            self.rules = await asyncio.to_thread(_parsed, found, self._path)
        except RulesError as error:
            self._refuse(error)
        else:
            self.fault = None
            logger.info("rules in force: %s", _summary(self.rules))

    def _refuse(self, error: RulesError) -> None:
        if str(error) != self.fault:
            self.fault = str(error)
            self._metrics.bad_files.labels(self._path.name).inc()
            logger.error("the rules stay as they were: %s", error)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RulesError(
            f"{path} cannot be read ({error.strerror}); make it a readable file, or remove it"
        ) from error


def _parsed(content: bytes | None, path: Path) -> Rules:
    if content is None:
        return Rules()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise RulesError(f"{path} is not UTF-8 ({error}); save it as UTF-8") from error
    return parse_rules(text, str(path))


def _summary(rules: Rules) -> str:
    return ", ".join(f"{len(getattr(rules, kind))} {kind}" for kind in Rules.model_fields)
