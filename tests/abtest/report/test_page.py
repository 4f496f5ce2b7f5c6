import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from abtest.analysis.statistics.effect import Interval, Novelty, Preference
from abtest.report.analysis import analyze
from abtest.report.model import Interleaving, Report
from abtest.report.page import render_html
from abtest.report.terminal import render_text
from abtest.report.trial import Trial
from abtest.split.experiment import Guardrail, State
from tests.abtest.report.made import METRICS, after, crowd, readings


def made(units: int, days: int, names: tuple[str, ...] = ("old", "new")) -> Report:
    rng = np.random.default_rng(7)
    found = readings(
        {name: crowd(units, days, rng, uplift=1 + 0.3 * at) for at, name in enumerate(names)}
    )
    declared = Trial(
        subject=found.subject,
        state=State.RUNNING,
        hypothesis="People buy more of what is shown first.",
        layer="model",
        unit="user_id",
        control="old",
        weights={name: 1 / len(names) for name in names},
        primary_metric="revenue_per_unit",
        secondary_metrics=("requests_per_unit", "revenue_per_1000_items"),
        guardrails=(Guardrail(metric="latency_p99", tolerance=0.05),),
        segments=("country",),
        planned_units=len(names) * units,
    )
    return analyze(found, declared._replace(replay=True), METRICS, as_of=after(days))


@pytest.fixture(scope="module")
def report() -> Report:
    return made(1500, 10)


@pytest.fixture(scope="module")
def empty() -> Report:
    return made(1, 1)


@pytest.fixture(scope="module")
def source(report: Report) -> str:
    return render_html(report)


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
        report.decision.headline,
        f"{old.requests:,}",
        f"{new.revenue_per_unit:,.2f} USD",
        f"{new.revenue_per_1000_items:,.2f} USD",
        "Latency p99",
        "Sample ratio check passed",
        "This traffic is a replay",
        f"{report.primary[0].absolute:+,.2f} USD",
        "country = DE",
        "Guardrails",
    ):
        assert expected in text


def test_page_shows_what_the_terminal_shows(report: Report, source: str) -> None:
    page = Page(source)
    assert report.decision.headline in page.text
    assert all(reason in page.text for reason in report.decision.reasons)
    assert report.notes[0] in page.text
    terminal = " ".join(render_text(report).split())
    numbers = re.findall(r"[+-]?\d[\d,]*\.\d+ (?:USD|ms|%)", terminal)
    assert len(numbers) > 20
    shown = " ".join(page.text)
    assert all(number in shown for number in numbers)


def test_page_needs_no_network_and_no_script(source: str) -> None:
    page = Page(source)
    assert all(reference.startswith("#") for reference in page.references)
    assert "<script" not in source
    assert "@import" not in source
    assert not re.findall(r"url\((?!#)", source)
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", source)
    assert "http" not in without_namespaces
    assert len(set(page.ids)) == len(page.ids)


def test_charts_are_labelled_and_take_the_pages_colours(source: str) -> None:
    drawings = re.findall(r"<svg .*?</svg>", source, flags=re.DOTALL)
    assert len(drawings) == 7
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert "var(--arm-1)" in drawing
        assert not re.search(r"#0[1-3]0[2-4]0", drawing)
    assert "prefers-color-scheme: dark" in source


def test_the_chart_of_effects_says_what_the_table_says(report: Report) -> None:
    # Below one, in an interval that is not: decimals follow the interval.
    narrow = {"absolute": -0.8739, "interval": Interval(low=-3.95, high=2.21)}
    primary = tuple(effect.model_copy(update=narrow) for effect in report.primary)
    source = render_html(report.model_copy(update={"primary": primary}))
    assert source.count("-0.87 USD") >= 2
    assert "-0.8739" not in source


def test_same_report_same_page(report: Report, source: str) -> None:
    assert render_html(report) == source


def test_names_are_escaped(report: Report) -> None:
    decision = report.decision.model_copy(update={"headline": "<b>5 & 6</b>"})
    source = render_html(report.model_copy(update={"decision": decision}))
    assert "&lt;b&gt;5 &amp; 6&lt;/b&gt;" in source
    assert "[b]5[/b]" in render_text(
        report.model_copy(update={"notes": ("[b]5[/b]",)})
    )  # no markup in the terminal either


def test_a_nearly_empty_report_can_be_shown(empty: Report) -> None:
    assert "No comparison is possible yet" in render_text(empty)
    source = render_html(empty)
    assert "n/a" in source
    assert "Effect against" not in source


def test_a_blocked_report_shows_no_effect(report: Report) -> None:
    found = made(1500, 10)
    ratio = found.sample_ratio.model_copy(update={"ok": False})
    names = ("primary", "guards", "secondary", "segments", "days", "off_policy")
    blank: dict[str, object] = dict.fromkeys(names, ())
    blocked = found.model_copy(update={"sample_ratio": ratio, **blank})
    source = render_html(blocked)
    assert "Sample ratio check FAILED" in source
    assert "Effect over time" not in source
    assert "Sample ratio check FAILED" in render_text(blocked)
    assert "FAILED" not in render_text(report)


@pytest.mark.parametrize("call", ["stop", "blocked"])
def test_the_decision_is_coloured_by_its_call(report: Report, call: str) -> None:
    decision = report.decision.model_copy(update={"call": call})
    source = render_html(report.model_copy(update={"decision": decision}))
    assert f'class="card decision {call}"' in source
    assert f".{call}" in source


def test_findings_are_told(report: Report) -> None:
    fading = Novelty(variant="new", slope_per_day=-0.1, p_value=0.01, fades=True, grows=False)
    preference = Preference(
        units=40, wins_a=6, wins_b=14, ties=20, share_a=0.3,
        share_interval=Interval(low=0.15, high=0.52), p_value=0.115,
        difference=-0.2, difference_interval=Interval(low=-0.4, high=0.0),
    )  # fmt: skip
    mixed = Interleaving(
        a="old", b="new", clicks_a=9, clicks_b=21, purchases_a=2, purchases_b=5,
        preference=preference,
    )  # fmt: skip
    text = " ".join(
        render_text(report.model_copy(update={"novelty": (fading,), "interleaving": mixed})).split()
    )
    assert "The effect of new fades with the days of exposure (p = 0.0100)" in text
    assert (
        "Interleaved answers, 40 units: old is credited with 9 clicked items and 2 bought, new "
        "with 21 clicked items and 5 bought. Of the units that took more from one, 30.00 % took it "
        "from old (p = 0.1150)."
    ) in text
    assert "Off-policy, the best variant for each country:" in text


def test_many_arms_with_long_names_fit(source: str) -> None:
    names = ("old", *(f"a-variant-with-a-long-name-{number}" for number in range(4)))
    many = made(300, 8, names)
    assert max(len(line) for line in render_text(many).splitlines()) <= 100
    assert "…" in render_html(many)
    assert "…" not in source
