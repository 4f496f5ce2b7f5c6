"""Page: a load test as one HTML file."""

from collections.abc import Sequence
from datetime import datetime
from importlib import resources
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from loadtest.charts import draw
from loadtest.result import BUSY_CPU_SHARE, LATE_MS, StepResult, measured
from loadtest.slo import Check
from loadtest.wording import CHECK_COLUMNS, COLUMNS, Sentence, check_row, ms, percent, row


class Heading(NamedTuple):
    """What was tested, and when."""

    preset: str
    host: str
    ended: datetime
    within_ms: float


def render(
    heading: Heading,
    results: Sequence[StepResult],
    checks: Sequence[Check],
    said: Sequence[Sentence],
) -> str:
    """Fill the page's template."""
    source = resources.files("loadtest").joinpath("report.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source).render(
        heading=heading,
        said=said,
        missed=sum(not check.met for check in checks),
        check_columns=CHECK_COLUMNS,
        checks=[(check, check_row(check)) for check in checks],
        columns=COLUMNS,
        rows=[row(one) for one in measured(results)],
        late_ms=ms(LATE_MS),
        busy=percent(BUSY_CPU_SHARE),
        charts=draw(results, heading.within_ms),
    )
