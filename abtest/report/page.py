"""Page: a report as one HTML file; its charts are inside, and it needs no network."""

from importlib import resources

from jinja2 import Environment, StrictUndefined

from abtest.report.breakdown import arm_sections, arm_title
from abtest.report.charts import charts
from abtest.report.finding import findings, period, ratio_sentence
from abtest.report.model import Report
from abtest.report.table import tables


def render_html(report: Report) -> str:
    """Fill the page's template."""
    source = resources.files("abtest.report").joinpath("report.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source).render(
        report=report,
        period=period(report),
        ratio=ratio_sentence(report),
        arm_titles=[arm_title(arm, report) for arm in report.arms],
        sections=arm_sections(report),
        tables=tables(report),
        findings=tuple(findings(report)),
        charts=charts(report),
    )
