"""Axis: how the primary metric and the days are put on the axes of a chart."""

from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.metric import Format
from abtest.report.drawing import ARMS
from abtest.report.model import Report


def colour(report: Report, name: str) -> str:
    """The placeholder colour of a variant."""
    names = [arm.name for arm in report.arms]
    return ARMS[names.index(name) % len(ARMS)]


def unit(report: Report) -> str:
    """What the axis of the primary metric counts."""
    match report.metrics[report.primary_metric].format:
        case Format.MONEY:
            return report.currency or "revenue"
        case Format.SHARE:
            return "percentage points"
        case Format.MS:
            return "ms"
        case Format.COUNT:
            return "count"


def scale(report: Report) -> float:
    """Shares are drawn in percentage points."""
    return 100.0 if report.metrics[report.primary_metric].format is Format.SHARE else 1.0


def dates(days: Sequence[date]) -> NDArray[np.datetime64]:
    """Days as the axis takes them."""
    return np.array(days, dtype="datetime64[D]")


def short(name: str, length: int = 32) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= length else f"{name[: length - 1]}…"
