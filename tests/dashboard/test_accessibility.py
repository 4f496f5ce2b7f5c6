"""Accessibility: every view can be read, and said aloud, by whoever looks at it."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.dashboard.conftest import Visitor
from tests.dashboard.shop_window import DRAFT, KEY

VIEWS = ("#/", f"#/experiments/{KEY}", f"#/experiments/{DRAFT}", "#/traffic", "#/changes")

FAULTS = """() => {
  const faults = [];
  const shown = (e) => e.getClientRects().length > 0;
  const labels = (e) => [...(e.labels ?? [])].map((label) => label.textContent).join(" ");
  const said = (e) => e.textContent.trim() || e.title;
  const name = (e) => (e.getAttribute("aria-label") ?? labels(e)) || said(e);
  for (const e of document.querySelectorAll("a[href],button,input,select,textarea,summary,[role]"))
    if (shown(e) && !["presentation", "alert", "status"].includes(e.getAttribute("role"))
        && !name(e) && !e.getAttribute("aria-labelledby")) faults.push("no name: " + e.outerHTML);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids))
    if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push("twice: " + id);
  for (const e of document.querySelectorAll("[aria-labelledby],[aria-describedby]"))
    for (const at of ["aria-labelledby", "aria-describedby"])
      for (const id of (e.getAttribute(at) ?? "").split(" ").filter(Boolean))
        if (!document.getElementById(id)) faults.push(at + " names nothing: " + id);
  let level = 0;
  for (const e of document.querySelectorAll("h1,h2,h3,h4")) {
    if (!shown(e)) continue;
    const next = Number(e.tagName[1]);
    if (next > level + 1) faults.push("heading skips a level: " + e.textContent);
    level = next;
  }
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  if (document.querySelectorAll("main").length !== 1) faults.push("not one main");
  if (!document.documentElement.lang) faults.push("no language");
  for (const e of document.querySelectorAll("table"))
    if (!e.caption) faults.push("table without caption");
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) faults.push(`page is ${wide} px too wide`);
  return faults;
}"""

CONTRAST = """() => {
  const rgb = (text) => {
    const c = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    c.fillStyle = text; c.fillRect(0, 0, 1, 1);
    return [...c.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const found = rgb(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  const seen = new Map();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !e.getClientRects().length) continue;
    if (e.closest(".sr, :disabled, .strip, noscript, .skip")) continue;
    const style = getComputedStyle(e);
    const colour = e instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(rgb(colour)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) seen.set(`${colour} on ${e.textContent.slice(0, 40)}`, ratio.toFixed(2));
  }
  return [...seen];
}"""


@pytest.mark.parametrize("width", [1280, 390])
def test_names_headings_and_width(visitor: Visitor, width: int) -> None:
    visitor.allowed.add(404)
    visitor.page.set_viewport_size({"width": width, "height": 844})
    for view in VIEWS:
        page = visitor.open(view)
        assert page.evaluate(FAULTS) == [], view
    page = visitor.open(f"#/experiments/{KEY}")
    page.get_by_role("button", name="Ramp…").click()
    expect(page.get_by_role("button", name="Set ")).to_be_enabled()
    assert page.evaluate(FAULTS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(visitor: Visitor, scheme: Any) -> None:  # noqa: ANN401  # a literal
    visitor.allowed.add(404)
    visitor.page.emulate_media(color_scheme=scheme)
    for view in VIEWS:
        page = visitor.open(view)
        assert page.evaluate(CONTRAST) == [], view
