"""Pictures of the dashboard for the documentation: `python -m tests.dashboard.pictures --out docs`.

Starts a server on a data directory of its own, fills it with two weeks of traffic, makes the
reports, changes the configuration as people do, and says how long a page took to be drawn.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import httpx
from playwright.sync_api import Browser, FloatRect, Page, sync_playwright

from abtest.log.archive import archive
from serving.reports.step import make_reports
from serving.settings import Settings
from tests.dashboard.shop_window import (
    DAY_US,
    KEY,
    experiments,
    open_store,
    send,
    traffic,
)
from tests.serving.world import ServerProcess, write_world

DRAWN_MS = """() => Math.max(...performance.getEntriesByType("paint").map((e) => e.startTime),
  ...performance.getEntriesByName("drawn").map((e) => e.startTime))"""
MARK = """new MutationObserver((_, watch) => {
  if (document.querySelector("main h1")) { performance.mark("drawn"); watch.disconnect(); }
}).observe(document, { childList: true, subtree: true });"""


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--units", type=int, default=24_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = _furnish(Path(folder), args.units)
        try:
            with sync_playwright() as playwright:
                path = shutil.which("chromium") or shutil.which("google-chrome")
                browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
                _take(browser, server.url, args.out)
                browser.close()
        finally:
            server.stop()


def _furnish(data_dir: Path, units: int) -> ServerProcess:
    write_world(data_dir)
    config = experiments(planned_units=units * 2 // 3)
    (data_dir / "experiments.toml").write_text(config)
    server = ServerProcess(data_dir, archive_interval_s="86400", report_interval_s="86400")
    server.start()
    # Until yesterday: the result is read when the day on which the planned units came is over.
    end_us = time.time_ns() // 1000 // DAY_US * DAY_US
    with open_store(data_dir) as store:
        print("events:", send(store, traffic(config, units, now_us=end_us, seed=11)))
        archive(store, data_dir / "events")
    began = time.monotonic()
    make_reports(Settings(data_dir=data_dir))
    print(f"reports made in {time.monotonic() - began:.1f} s")
    _change(server.url, KEY, "ramp", share=0.9, note="A week without trouble: the next step.")
    _change(server.url, "wider-recall", "ramp", share=0.05, note="Begin small.")
    _change(server.url, "wider-recall", "start", note="Reviewed with the search team.")
    return server


def _change(url: str, key: str, action: str, **more: object) -> None:
    revision = httpx.get(f"{url}/v1/experiments").json()["revision"]
    body = {"revision": revision, **more}
    httpx.post(f"{url}/v1/experiments/{key}/{action}", json=body, timeout=30).raise_for_status()


def _take(browser: Browser, url: str, out: Path) -> None:
    for number in range(6):
        httpx.post(f"{url}/v1/recommend", json={"user_id": f"user-{number}", "num": 5})
    page = browser.new_page(viewport={"width": 1280, "height": 900}, device_scale_factor=1)
    page.add_init_script(MARK)
    drawn = []
    for _ in range(5):
        page.goto("about:blank")
        _open(page, f"{url}/#/experiments/{KEY}")
        drawn.append(page.evaluate(DRAWN_MS))
    print(f"experiment drawn after {statistics.median(drawn):.0f} ms (median of {len(drawn)})")
    page.screenshot(path=out / "dashboard.png", clip=_above(page))
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=out / "dashboard-dark.png", clip=_above(page))
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 860})
    _open(page, f"{url}/#/")
    page.screenshot(path=out / "dashboard-list.png", clip=_left_of_scrollbar(860))


def _open(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("main h1")
    page.wait_for_timeout(400)


def _above(page: Page) -> FloatRect:
    """The page down to the end of the metrics."""
    box = page.locator("section", has=page.get_by_role("heading", name="Guardrails")).bounding_box()
    assert box is not None
    page.set_viewport_size({"width": 1280, "height": int(box["y"])})
    page.wait_for_timeout(300)
    return _left_of_scrollbar(int(box["y"]) - 4)


def _left_of_scrollbar(height: int) -> FloatRect:
    return {"x": 0, "y": 0, "width": 1265, "height": height}


if __name__ == "__main__":
    main()
