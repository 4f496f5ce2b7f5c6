"""The report of a test: one file, nothing fetched, every fact in it."""

import doctest
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import StringIO

import pytest
from rich.console import Console

import loadtest.wording
from loadtest.page import Heading, render
from loadtest.presets import Preset, Scale, plan_of
from loadtest.result import StepResult, measured, to_json
from loadtest.slo import Objective, check
from loadtest.terminal import print_results
from loadtest.wording import row, sentences
from tests.loadtest.results import driven

HEADING = Heading("all", "http://host <b>", datetime(2026, 5, 4, 12, 0, tzinfo=UTC), 100.0)
OBJECTIVES = (
    Objective(name="quick", at_rate_per_s=50, p99_ms=100),
    Objective(name="none refused", shed_share=0.0),
)


@pytest.fixture(scope="module")
def results() -> list[StepResult]:
    found = driven(plan_of(Preset.ALL, Scale(2.0)), 200.0)
    found[-1].phases[0].routes["events"].failures["events: status 500"] = 12
    found[-1].phases[0].routes["recommend"].degraded["no store"] = 3
    return found


class Ids(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href"):
                self.links.append(value or "")


def page(results: list[StepResult], objectives: tuple[Objective, ...] = OBJECTIVES) -> str:
    return render(HEADING, results, check(objectives, results), sentences(results, 100.0))


def test_the_page_stands_alone_in_light_and_dark(results: list[StepResult]) -> None:
    text = page(results)
    parser = Ids()
    parser.feed(text)
    assert len(parser.ids) == len(set(parser.ids))
    assert all(link.startswith("#") for link in parser.links)
    assert text.count("<svg ") == 6
    for title in ("Latency against load", "Answers against load", "Spike over time"):
        assert f">{title}</h2>" in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"#0[1-5]0[1-5]0\d", text.partition("</style>")[2])
    used = set(re.findall(r"var\(--([\w-]+)\)", text)) - {"tone"}
    light, _, dark = text.partition("@media (prefers-color-scheme: dark)")
    for name in used:
        assert f"--{name}: #" in light
        assert f"--{name}: #" in dark.partition("</style>")[0]


def test_the_page_says_what_was_found(results: list[StepResult]) -> None:
    text = page(results)
    assert "http://host &lt;b&gt;" in text
    assert "Objectives missed" in text
    assert "1 of 2 limits missed" in text
    assert "Closed loop: 200 valid recommendations a second." in text
    assert re.search(r"Open loop: at 17\d/s 99 % of the answers came within 100 ms", text)
    assert "Failed: 12 x events: status 500" in text
    assert "Degraded: 3 x no store" in text
    for one in measured(results):
        for cell in row(one):
            assert f"<td>{cell}</td>".replace("<0", "&lt;0") in text
    assert "No objectives" in page(results, ())
    assert "Objectives met" in page(results, OBJECTIVES[:1])


def test_a_late_generator_and_a_lost_process_are_said(results: list[StepResult]) -> None:
    worse = [replace(results[1], cpu_share=0.97, missing=1)]
    said = [sentence.text for sentence in sentences(worse, 100.0) if sentence.bad]
    assert said[0].startswith("The load generator was late or out of processor time in 1 of 1 ph")
    assert said[1] == "1 reports of generating processes did not come."
    assert not [one for one in sentences(results[:2], 100.0) if one.bad]


def test_the_terminal_shows_the_same(results: list[StepResult]) -> None:
    out = Console(file=StringIO(), width=150)
    print_results(out, results, check(OBJECTIVES, results), sentences(results, 100.0))
    assert isinstance(out.file, StringIO)
    text = out.file.getvalue()
    for one in measured(results):
        assert re.search(r" +".join(re.escape(cell) for cell in row(one)), text)
    assert re.search(r"quick +p99 +100 ms +\d.* ms +50/s +met", text)
    assert re.search(r"none refused +shed +0 % +\d.* % +the whole test +MISSED", text)
    assert "Objectives: 1 of 2 limits missed." in text


def test_json_has_numbers_or_nothing(results: list[StepResult]) -> None:
    found = to_json(results)
    assert found["closed_loop_per_s"] == 200
    assert found["knee"]["carried_per_s"] < 180 <= found["knee"]["missed_per_s"]
    phase = found["steps"][1]["phases"][0]
    assert phase["lateness_p99_ms"] is None
    assert phase["routes"]["recommend"]["latency_ms"]["p50"] < 100
    assert sum(window["requests"] for window in phase["windows"]) == 200


def test_the_examples_of_the_wording_hold() -> None:
    found = doctest.testmod(loadtest.wording)
    assert (found.failed, found.attempted) == (0, 2)
