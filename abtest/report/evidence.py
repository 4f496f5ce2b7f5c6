"""Evidence: what a decision is made from."""

from datetime import date
from typing import Final, Literal, NamedTuple

from abtest.analysis.metric import Metric
from abtest.analysis.statistics.effect import ALPHA, Effect, Exposure, Guard, Interval, SampleRatio
from abtest.split.experiment import State

FULL_WEEK_DAYS: Final = 7
"""Weekdays differ, so nothing ships on less."""
MAX_CROSSED_SHARE: Final = 0.01
"""Of the units; with more of them seen in several variants, those left are no fair sample."""


class Evidence(NamedTuple):
    """What was found, as far as it decides."""

    state: State | Literal["holdout"]
    control: str
    units: int
    planned_units: int | None
    ratio: SampleRatio
    exposure: Exposure
    metrics: dict[str, Metric]
    """Definitions of the primary metric and of the guardrails', by name."""
    primary_metric: str
    currency: str | None
    primary: tuple[Effect, ...]
    """As things stand now."""
    planned_day: date | None
    """Day on which the planned units were reached, after a full week at least."""
    planned: tuple[Effect, ...]
    """As things stood at the end of that day."""
    guards: tuple[Guard, ...]

    @property
    def metric(self) -> Metric:
        """The primary one."""
        return self.metrics[self.primary_metric]

    @property
    def days(self) -> int:
        """Calendar days from the first exposure to the last event."""
        return (self.exposure.last_day - self.exposure.first_day).days + 1

    @property
    def crossed_share(self) -> float:
        """Share of all units that were seen in several variants."""
        crossed = self.exposure.crossed_units
        return crossed / max(1, crossed + self.units)

    def gain(self, interval: Interval | None) -> int:
        """Of an interval of the primary metric: 1 if all of it is gain, -1 if harm, else 0."""
        side = sign(interval)
        return side if self.metric.good == "up" else -side


def sign(interval: Interval | None) -> int:
    """1 for an interval above zero, -1 for one below, 0 where zero is inside."""
    if interval is None:
        return 0
    return 1 if interval.low > 0 else -1 if interval.high < 0 else 0


def significant(effect: Effect) -> bool:
    """Whether it stands the adjustment for the number of variants, if there was one."""
    return effect.p_adjusted is None or effect.p_adjusted < ALPHA
