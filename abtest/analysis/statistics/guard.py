"""Guard: whether a variant harms a metric that it must not harm."""

from abtest.analysis.metric import Metric
from abtest.analysis.statistics.effect import AnalysisError, Effect, Guard, Interval


def guard(metric: Metric, effect: Effect, tolerance: float) -> Guard:
    """Judge an effect by its confidence sequence, so that it may be asked after every archive.

    Broken if the whole interval of the harm is beyond the tolerance. The interval is two-sided and
    only harm breaks, so a variant without effect is stopped in about 2.5 % of experiments at most,
    however often it is asked.

    Where the control's value is not clearly above zero there is no share of it. The absolute harm
    is then held against the tolerance of the largest value that the control may have.

    Args:
        metric: tells which direction is good.
        effect: of that metric.
        tolerance: accepted harm as a share of the control's value, in [0, 1).

    Raises:
        AnalysisError: the effect is of another metric, or the tolerance is not in [0, 1).
    """
    if effect.metric != metric.name:
        raise AnalysisError(
            f"effect.metric == {effect.metric!r} must be the guardrail's {metric.name!r}"
        )
    if not 0 <= tolerance < 1:
        raise AnalysisError(
            f"tolerance == {tolerance} must be in [0, 1); it is a share, such as 0.05"
        )
    found = _harm(metric, effect.always_valid_relative)
    if found is not None:
        broken = found.low > tolerance
    else:
        absolute = _harm(metric, effect.always_valid)
        broken = absolute is not None and absolute.low > tolerance * (
            abs(effect.control_value) + (absolute.high - absolute.low) / 2
        )
    return Guard(effect=effect, tolerance=tolerance, harm=found, broken=broken)


def _harm(metric: Metric, effect: Interval | None) -> Interval | None:
    if effect is None or metric.good == "down":
        return effect
    return Interval(low=-effect.high, high=-effect.low)
