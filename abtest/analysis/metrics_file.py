"""Metrics file: the metrics in force, those of every installation and this one's own."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from abtest.analysis.metric import Metric, MetricError

MAX_METRICS = 200
_TABLE = "metrics"


def load_metrics(path: Path | None = None) -> dict[str, Metric]:
    """The built-in metrics, overlaid by those of a file.

    Args:
        path: `metrics.toml` of the data directory; where it does not exist nothing is overlaid.

    Raises:
        MetricError: a file is not TOML, has an unknown key, or a metric breaks a rule.
    """
    built_in = files("abtest.configs").joinpath("metrics.toml").read_text()
    metrics = parse_metrics(built_in, "built-in metrics")
    if path is not None and path.is_file():
        metrics |= parse_metrics(path.read_text(), str(path))
    if len(metrics) > MAX_METRICS:
        raise MetricError(
            f"{path} makes {len(metrics)} metrics in all; {MAX_METRICS} are the most, drop some"
        )
    return metrics


def parse_metrics(text: str, source: str) -> dict[str, Metric]:
    """Validate metrics written in TOML, each a table `[metrics.NAME]`.

    Raises:
        MetricError: it is not TOML, has an unknown key, or a metric breaks a rule.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MetricError(f"{source} is not valid TOML: {error}") from error
    tables = raw.pop(_TABLE, {})
    if raw or not isinstance(tables, dict):
        unknown = sorted(raw) or [_TABLE]
        raise MetricError(f"{source}: {unknown} must be tables named [metrics.NAME]")
    return {name: _metric(name, table, source) for name, table in tables.items()}


def _metric(name: str, table: object, source: str) -> Metric:
    where = f"{source}: metric {name}"
    if not isinstance(table, dict) or "name" in table:
        raise MetricError(f"{where} must be a table without a name of its own; write [metrics.X]")
    try:
        return Metric.model_validate({**table, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise MetricError(f"{where}: {at + ': ' if at else ''}{message}") from error
