"""The dashboard in a real browser, against a real server with real reports."""

import re
from typing import Any

import httpx
from playwright.sync_api import BrowserContext, Page, expect

from abtest.report.model import Report
from tests.dashboard.conftest import Visitor
from tests.dashboard.shop_window import DRAFT, KEY
from tests.serving.world import ServerProcess


def told(window: ServerProcess) -> Report:
    found = httpx.get(f"{window.url}/v1/experiments/{KEY}/report").raise_for_status()
    return Report.model_validate_json(found.content)


def in_force(window: ServerProcess) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{window.url}/v1/experiments").raise_for_status().json()
    return found


def state_of(window: ServerProcess, key: str) -> str:
    layers = in_force(window)["config"]["domains"][0]["layers"]
    (state,) = [e["state"] for layer in layers for e in layer["experiments"] if e["key"] == key]
    assert isinstance(state, str)
    return state


def act(window: ServerProcess, key: str, action: str, **more: object) -> None:
    body = {"revision": in_force(window)["revision"], **more}
    url = f"{window.url}/v1/experiments/{key}/{action}"
    response = httpx.post(url, json=body, timeout=30)
    assert response.status_code == 200, response.text


def numbers(text: str | None) -> str:
    """A text with plain spaces and minus signs."""
    return re.sub(r"\s+", " ", (text or "").replace("\u2212", "-").replace("\u202f", " ")).strip()


def test_list_shows_every_experiment_with_what_was_found(
    visitor: Visitor, window: ServerProcess
) -> None:
    page = visitor.open()
    report = told(window)
    rows = page.locator("table.list tbody tr")
    expect(rows).to_have_count(5)
    row = numbers(page.locator("tr", has_text=KEY).text_content())
    for shown in (
        "Running",
        "80 %",
        "baseline 50 %",
        f"{report.units:,}",
        report.decision.headline,
    ):
        assert shown in row
    assert "Draft" in numbers(page.locator("tr", has_text=DRAFT).text_content())
    assert "Holdout" in numbers(page.locator("tr", has_text="everything-since-may").text_content())
    expect(page.locator(".under")).to_contain_text("Revision ")
    page.locator("tr", has_text="badges").get_by_role("link").click()
    expect(page.locator("h1")).to_have_text("badges")
    visitor.allowed.add(404)


def test_experiment_shows_the_numbers_of_its_report(
    visitor: Visitor, window: ServerProcess
) -> None:
    page = visitor.open(f"#/experiments/{KEY}")
    report = told(window)
    decision = numbers(page.locator(".decision").text_content())
    assert report.decision.headline in decision
    for reason in report.decision.reasons:
        assert numbers(reason.replace("`", "")) in decision
    health = numbers(page.locator(".health").text_content())
    assert f"p = {report.sample_ratio.p_value:.4f}" in health
    assert f"{report.units:,} of 100,000 planned" in health
    assert "Forced units1 left out" in health
    for arm in report.arms:
        shown = numbers(page.locator(".bars li", has_text=arm.name).text_content())
        assert f"{arm.revenue_per_unit:,.2f} EUR" in shown
        assert f"{arm.units:,} units" in shown
    metrics = page.locator("section", has=page.get_by_role("heading", name="Metrics", exact=True))
    expect(metrics.locator("tbody tr")).to_have_count(len(report.primary) + len(report.secondary))
    first = numbers(metrics.locator("tbody tr").first.text_content())
    effect = report.primary[0]
    assert f"{effect.absolute:+,.2f} EUR" in first
    assert f"{100 * (effect.relative or 0):+.2f} %" in first
    assert f"{effect.p_value:.4f}" in first
    assert metrics.locator("svg.forest .inner").count() >= len(report.primary)
    guards = page.locator("section", has=page.get_by_role("heading", name="Guardrails"))
    expect(guards.locator("tbody tr")).to_have_count(len(report.guards))
    expect(guards.locator(".chip.good")).to_have_count(len(report.guards))
    segments = page.locator("section", has=page.get_by_role("heading", name="Segments"))
    expect(segments.locator("tbody tr")).to_have_count(len(report.segments))
    funnel = numbers(page.locator(".funnels > div").first.text_content())
    assert f"Bought{report.arms[0].bought_items:,}" in funnel
    latency = page.locator("section", has=page.get_by_role("heading", name="Latency"))
    assert report.arms[0].latency is not None
    assert f"{report.arms[0].latency.p99_ms:.1f}" in numbers(latency.text_content())


def test_every_day_of_the_chart_is_reached_by_keyboard_and_stands_in_a_table(
    visitor: Visitor, window: ServerProcess
) -> None:
    page = visitor.open(f"#/experiments/{KEY}")
    days = told(window).days
    lift = page.locator("section", has=page.get_by_role("heading", name="Lift over time"))
    stops = lift.locator(".stop")
    expect(stops).to_have_count(len(days))
    assert lift.locator('.stop[tabindex="0"]').count() == 1
    lift.locator('.stop[tabindex="0"]').focus()
    page.keyboard.press("ArrowLeft")
    label = numbers(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    day = days[-2]
    assert label.startswith(f"{day.day.day} {day.day:%b}: dftopk {day.absolute:+,.2f} EUR")
    assert f"fixed horizon {day.interval.low:+,.2f} to {day.interval.high:+,.2f}" in label
    assert f"{day.units:,} units" in label
    expect(lift.locator(".tip")).to_contain_text(f"{day.units:,} units")
    page.keyboard.press("Home")
    assert "stop" in page.evaluate("document.activeElement.getAttribute('class')")
    assert page.evaluate("document.activeElement.id") == "lift-1-0"
    page.keyboard.press("Escape")
    expect(lift.locator(".tip")).to_be_hidden()
    lift.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(lift.locator("table tbody tr")).to_have_count(len(days))
    last = numbers(lift.locator("table tbody tr").last.text_content())
    assert f"{days[-1].absolute:+,.2f} EUR" in last


def test_by_keyboard_alone_from_the_list_to_an_experiment_and_back(visitor: Visitor) -> None:
    page = visitor.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == f"to-{KEY}":
            break
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(KEY)
    assert page.evaluate("document.activeElement.tagName") == "H1"
    assert page.title() == f"{KEY} · Cascade"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "action-ramp"
    page.go_back()
    expect(page.locator("h1")).to_have_text("Experiments")


def test_action_is_shown_first_and_done_when_it_is_confirmed(
    visitor: Visitor, window: ServerProcess
) -> None:
    visitor.allowed.add(404)
    page = visitor.open(f"#/experiments/{DRAFT}")
    expect(page.get_by_text("A draft splits nobody")).to_be_visible()
    before = in_force(window)["revision"]
    start = page.get_by_role("button", name="Start…")
    start.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".preview")).to_contain_text(f"experiments.{DRAFT}.state")
    expect(dialog.locator(".preview")).to_contain_text("Of 10,000 users tried")
    moves = dialog.locator(".moves tbody tr")
    expect(moves).to_have_count(2)
    entering = [int(text.replace(",", "")) for text in moves.locator("td.number").all_inner_texts()]
    assert 700 < sum(entering) < 1300  # a tenth of the layer, less the holdout
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "action-start"
    assert (in_force(window)["revision"], state_of(window, DRAFT)) == (before, "draft")

    start.click()
    dialog.get_by_label("Note").fill("The review was fine. <b>Go</b>")
    dialog.get_by_role("button", name="Start").click()
    expect(dialog).to_have_count(0)
    expect(page.locator(".title .chip")).to_have_text("Running")
    assert (in_force(window)["revision"], state_of(window, DRAFT)) == (before + 1, "running")
    trail = page.locator("section", has=page.get_by_role("heading", name="Changes of this")).first
    expect(trail).to_contain_text("The review was fine. <b>Go</b>")
    assert trail.locator("p b").count() == 0
    expect(page.locator("#announce")).not_to_be_empty()
    audit = httpx.get(f"{window.url}/v1/experiments/audit?limit=1").json()["changes"][0]
    assert audit["note"] == "The review was fine. <b>Go</b>"


def test_change_that_came_meanwhile_is_shown_and_looked_at_again(
    visitor: Visitor, window: ServerProcess
) -> None:
    visitor.allowed |= {404, 409}
    page = visitor.open("#/experiments/big-pictures")
    page.get_by_role("button", name="Pause…").click()
    dialog = page.get_by_role("dialog")
    confirm = dialog.get_by_role("button", name="Pause")
    expect(confirm).to_be_enabled()
    act(window, KEY, "pause", note="A colleague was quicker")
    confirm.click()
    expect(dialog.get_by_role("alert")).to_contain_text("was changed meanwhile")
    expect(dialog.get_by_role("alert")).to_contain_text("A colleague was quicker")
    expect(dialog.get_by_role("alert")).to_contain_text("127.0.0.1")
    expect(confirm).to_be_disabled()
    assert state_of(window, "big-pictures") == "aa"
    dialog.get_by_role("button", name=re.compile("^Look again, from revision")).click()
    expect(confirm).to_be_enabled()
    confirm.click()
    expect(page.locator(".title .chip")).to_have_text("Paused")
    assert state_of(window, "big-pictures") == "paused"
    act(window, KEY, "start")


def test_refused_action_says_why_and_cannot_be_confirmed(
    visitor: Visitor, window: ServerProcess
) -> None:
    visitor.allowed.add(422)
    page = visitor.open(f"#/experiments/{KEY}")
    page.get_by_role("button", name="Ramp…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Share of the layer").fill("5")
    expect(dialog.get_by_role("alert")).to_contain_text("must be larger than 0.8")
    assert dialog.locator("button[type=submit]").is_disabled()
    dialog.get_by_label("Share of the layer").fill("85")
    expect(dialog.get_by_role("button", name="Set 85 %")).to_be_enabled()
    expect(dialog.get_by_role("alert")).to_be_empty()
    dialog.get_by_role("button", name="Cancel").click()
    assert state_of(window, KEY) == "running"


def test_winner_is_chosen_before_it_is_shipped(visitor: Visitor, window: ServerProcess) -> None:
    page = visitor.open(f"#/experiments/{KEY}")
    page.get_by_role("button", name="Ship…").click()
    dialog = page.get_by_role("dialog")
    confirm = dialog.get_by_role("button", name="Ship dftopk to everybody")
    expect(confirm).to_be_enabled()
    dialog.get_by_label("Winner").select_option("baseline")
    expect(dialog.get_by_role("button", name="Ship baseline to everybody")).to_be_enabled()
    expect(dialog.locator(".preview")).to_contain_text("baseline")
    assert state_of(window, KEY) == "running"


def test_events_come_in_by_themselves(visitor: Visitor, window: ServerProcess) -> None:
    page = visitor.open(f"#/experiments/{KEY}")
    page.locator(".feed").scroll_into_view_if_needed()
    asked = [f"walk-in-{number}" for number in range(20)]
    for user in asked:
        httpx.post(f"{window.url}/v1/recommend", json={"user_id": user, "num": 3})
    line = page.locator(".feed tbody tr", has_text="walk-in").first
    expect(line).to_contain_text("answered")
    expect(line).to_contain_text("3 items in")
    expect(line).to_contain_text(re.compile("baseline|dftopk"))


def test_server_that_is_away_is_told_and_what_is_shown_stays(
    visitor: Visitor, context: BrowserContext
) -> None:
    page = visitor.open(f"#/experiments/{KEY}")
    context.set_offline(True)
    expect(page.locator("#trouble")).to_contain_text("The server does not answer", timeout=15_000)
    expect(page.locator(".decision")).to_be_visible()
    context.set_offline(False)
    expect(page.locator("#trouble")).to_be_hidden(timeout=15_000)
    visitor.complaints[:] = [c for c in visitor.complaints if "ERR_INTERNET_DISCON" not in c]


def test_unknown_experiment_leads_back(visitor: Visitor) -> None:
    visitor.allowed.add(404)
    page = visitor.open("#/experiments/never-was")
    expect(page.locator("h1")).to_have_text("No such experiment")
    page.get_by_role("link", name="All experiments").click()
    expect(page.locator("h1")).to_have_text("Experiments")


def test_theme_follows_the_system_and_the_reader(visitor: Visitor) -> None:
    page = visitor.open()
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(colour)
    assert light != dark
    button = page.get_by_role("button", name=re.compile("^Theme"))
    button.click()
    expect(button).to_have_text("Theme: light")
    assert page.evaluate(colour) == light
    page.reload()
    page.wait_for_selector("main h1")
    expect(button).to_have_text("Theme: light")
    assert page.evaluate(colour) == light
    button.click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(colour) == dark


def test_nothing_jumps_while_it_loads_and_little_is_loaded(
    visitor: Visitor, window: ServerProcess
) -> None:
    visitor.page.add_init_script(
        "window.shifts = 0; new PerformanceObserver((list) => { for (const e of list.getEntries()) "
        "if (!e.hadRecentInput) window.shifts += e.value; })"
        ".observe({ type: 'layout-shift', buffered: true });"
    )
    page: Page = visitor.open(f"#/experiments/{KEY}")
    page.wait_for_timeout(5500)  # until it was asked for anew
    assert page.evaluate("window.shifts") < 0.1
    sizes = page.evaluate(
        "performance.getEntriesByType('resource').map((e) => [new URL(e.name).pathname, "
        "e.decodedBodySize])"
    )
    loaded = dict(sizes)
    assert loaded[f"/v1/experiments/{KEY}/report"] == len(told(window).model_dump_json().encode())
    assert sum(loaded.values()) < 200_000
