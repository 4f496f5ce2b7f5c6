"""A shop without business rules."""

from pathlib import Path

from serving.cascade.rerank.rulebook import Rulebook
from serving.telemetry.metrics import Metrics


def no_rules() -> Rulebook:
    """Rules of a file that is not there."""
    return Rulebook(Path("no-rules.toml"), Metrics())
