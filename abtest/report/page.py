"""Page: a report as one HTML file."""

from importlib import resources

from jinja2 import Environment, StrictUndefined

from abtest.report.charts import draw
from abtest.report.report import Report
from abtest.report.table import (
    LIFT_COLUMNS,
    arm_sections,
    arm_title,
    lift_rows,
    period,
    ratio_sentence,
)


def render(report: Report) -> str:
    """Fill the page's template."""
    source = resources.files("abtest.report").joinpath("report.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source).render(
        report=report,
        tone=_tone(report),
        period=period(report),
        ratio=ratio_sentence(report),
        arm_titles=[arm_title(arm, report) for arm in report.arms],
        sections=arm_sections(report),
        lift_columns=LIFT_COLUMNS,
        lifts=lift_rows(report.lifts, report.currency),
        charts=draw(report),
    )


def _tone(report: Report) -> str:
    """Style of the verdict: blocked, clear or open."""
    if not report.sample_ratio.ok:
        return "blocked"
    intervals = [lift.absolute_interval for lift in report.lifts]
    clear = any(interval.low > 0 or interval.high < 0 for interval in intervals)
    return "clear" if clear else "open"
