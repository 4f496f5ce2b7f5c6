import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import redis

from abtest.analysis.statistics import Interval
from abtest.report.report import Report, analyze, render_html, render_text
from tests.abtest.traffic import KEY, archived, assignment, config, ranking, world


@pytest.fixture
def report(valkey: redis.Redis, tmp_path: Path) -> Report:
    events = world(400, config(), seed=13, uplift=2.0)
    return analyze(archived(valkey, events, tmp_path / "busy"), config(), KEY, replay=True)


@pytest.fixture
def empty(valkey: redis.Redis, tmp_path: Path) -> Report:
    """One answer, no feedback, one arm without any traffic."""
    events = [ranking("a", "u1", [assignment("old")])]
    return analyze(archived(valkey, events, tmp_path / "empty"), config(), KEY)


class Page(HTMLParser):
    """Text and references of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.feed(source)

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        for name, value in attrs:
            if name in ("src", "href", "xlink:href"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def test_text_fits_the_terminal_and_tells_the_numbers(report: Report) -> None:
    text = render_text(report)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "\x1b" not in text
    old, new = report.arms
    for expected in (
        "new earned more than old",
        f"{old.requests:,}",
        f"{new.revenue_per_unit:,.2f} USD",
        f"{new.revenue_per_1000_items:,.2f} USD",
        "Latency p99",
        "Sample ratio check passed",
        "This traffic is a replay",
        f"{report.lifts[0].absolute:+,.2f} USD",
    ):
        assert expected in text


def test_page_shows_what_the_terminal_shows(report: Report) -> None:
    page = Page(render_html(report))
    assert report.verdict in page.text
    assert report.notes[0] in page.text
    terminal = " ".join(render_text(report).split())
    numbers = re.findall(r"[+-]?\d[\d,]*\.\d+ (?:USD|ms|%)", terminal)
    assert len(numbers) > 20
    shown = " ".join(page.text)
    assert all(number in shown for number in numbers)


def test_page_needs_no_network_and_no_script(report: Report) -> None:
    source = render_html(report)
    page = Page(source)
    assert all(reference.startswith("#") for reference in page.references)
    assert "<script" not in source
    assert "@import" not in source
    assert not re.findall(r"url\((?!#)", source)
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", source)
    assert "http" not in without_namespaces
    assert len(set(page.ids)) == len(page.ids)


def test_charts_are_labelled_and_take_the_pages_colours(report: Report) -> None:
    source = render_html(report)
    drawings = re.findall(r"<svg .*?</svg>", source, flags=re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert "var(--arm-1)" in drawing
        assert not re.search(r"#0[1-3]0[2-4]0", drawing)
    assert "prefers-color-scheme: dark" in source


def test_the_chart_of_lifts_says_what_the_table_says(report: Report) -> None:
    # Below one, in an interval that is not: decimals follow the interval.
    wide = Interval(low=-3.95, high=2.21)
    narrow = {"absolute": -0.8739, "absolute_interval": wide}
    lifts = [lift.model_copy(update=narrow) for lift in report.lifts]
    source = render_html(report.model_copy(update={"lifts": lifts}))
    assert source.count("-0.87 USD") >= 2
    assert "-0.8739" not in source


def test_same_report_same_page(report: Report) -> None:
    assert render_html(report) == render_html(report)


def test_names_are_escaped(report: Report) -> None:
    source = render_html(report.model_copy(update={"verdict": "<b>5 & 6</b>"}))
    assert "&lt;b&gt;5 &amp; 6&lt;/b&gt;" in source


def test_a_nearly_empty_report_can_be_shown(empty: Report) -> None:
    assert "No comparison is possible yet" in render_text(empty)
    source = render_html(empty)
    assert "n/a" in source
    assert "Lift against" not in source


def test_verdict_is_coloured_by_its_kind(report: Report, empty: Report) -> None:
    assert 'class="card verdict clear"' in render_html(report)
    assert 'class="card verdict open"' in render_html(empty)
    broken = report.sample_ratio.model_copy(update={"ok": False})
    blocked = report.model_copy(update={"sample_ratio": broken})
    assert 'class="card verdict blocked"' in render_html(blocked)
