"""How long the dashboard takes to show what was found."""

import contextlib
import http.client
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from playwright.sync_api import Browser, Request, sync_playwright

from benchmarks.report.log import KEY
from benchmarks.serving.contenders import HOST, shared_environment
from benchmarks.serving.processes import Processes

CHROMIUM: Final = shutil.which("chromium") or shutil.which("google-chrome")
PAGES: Final = (
    ("list of experiments", "", "table.list tbody tr"),
    (f"experiment `{KEY}`", f"#/experiments/{KEY}", ".decision"),
)
"""Name, route, and what is drawn once the numbers are there."""
START_S: Final = 120.0


class Page(NamedTuple):
    """A page of the dashboard."""

    name: str
    ms: tuple[float, ...]
    """Of each run, from the click on its address to the last number drawn."""
    transferred_kb: float


def measure(data_dir: Path, root: Path, runs: int) -> tuple[Page, ...]:
    """Serve a data directory whose reports are made, and look; nothing without a browser."""
    if CHROMIUM is None:
        return ()
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "cli", "serve", "--device", "cpu", "--port", str(port)]
    command += ["--data-dir", str(data_dir.absolute())]
    environment = shared_environment(root) | {"CASCADE_REPORT_INTERVAL_S": "1"}
    log = data_dir / "server.log"
    with Processes(command, environment, root, log) as processes:
        _wait_for_reports(processes, port)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
            )
            pages = tuple(_look(browser, f"http://{HOST}:{port}/", *p, runs) for p in PAGES)
            browser.close()
    return pages


def _look(browser: Browser, url: str, name: str, route: str, drawn: str, runs: int) -> Page:
    loads = [_load(browser, f"{url}{route}", drawn) for _ in range(runs)]
    return Page(name, tuple(ms for ms, _ in loads), loads[-1][1] / 1000)


def _load(browser: Browser, url: str, drawn: str) -> tuple[float, int]:
    """Milliseconds and bytes of a page, for somebody who was never there."""
    finished: list[Request] = []
    context = browser.new_context()
    page = context.new_page()
    page.on("requestfinished", lambda request: finished.append(request))
    start = time.perf_counter()
    page.goto(url)
    page.wait_for_selector(drawn)
    ms = 1000 * (time.perf_counter() - start)
    transferred = sum(request.sizes()["responseBodySize"] for request in finished)
    context.close()
    return ms, transferred


def _wait_for_reports(processes: Processes, port: int) -> None:
    """The background process makes them once, after which it finds nothing new."""
    deadline = time.monotonic() + START_S
    while True:
        processes.check()
        connection = http.client.HTTPConnection(HOST, port, timeout=10.0)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", f"/v1/experiments/{KEY}/report")
            if connection.getresponse().status == http.client.OK:
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"no report of {KEY} after {START_S:.0f} s")
        time.sleep(0.2)
