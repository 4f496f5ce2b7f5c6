"""A server with two weeks of traffic and its reports, and a real browser that looks at it."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from abtest.log.archive import archive
from serving.reports.step import make_reports
from serving.settings import Settings
from tests.dashboard.shop_window import KEY, experiments, open_store, send, traffic
from tests.serving.world import ServerProcess, write_world

UNITS, PLANNED = 700, 100_000
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="package")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose experiments have reports, which its background process leaves as they are."""
    data_dir = tmp_path_factory.mktemp("window")
    write_world(data_dir)
    config = experiments(PLANNED)
    (data_dir / "experiments.toml").write_text(config)
    settings = Settings(data_dir=data_dir)
    server = ServerProcess(data_dir, archive_interval_s="86400", report_interval_s="86400")
    server.start()
    with open_store(data_dir) as store:
        sent = send(store, traffic(config, UNITS, now_us=time.time_ns() // 1000, seed=5))
        assert archive(store, settings.events_dir) == sent
    make_reports(settings)
    assert httpx.get(f"{server.url}/v1/experiments/{KEY}/report").status_code == 200
    yield server
    assert server.stop() == 0, server.log_path.read_text()


@pytest.fixture(scope="package")
def browser(window: ServerProcess) -> Iterator[Browser]:
    """Started after all that needs an event loop of its own."""
    assert window.process is not None
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@dataclass
class Visitor:
    """A page, and what happened on it that nobody should see."""

    page: Page
    url: str
    allowed: set[int] = field(default_factory=set)
    """Statuses that the page is to get in this test; the browser tells of them as errors."""
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def open(self, route: str = "#/") -> Page:
        """Go to a view and wait until it is drawn."""
        self.page.goto(f"{self.url}/{route}")
        self.page.wait_for_selector("main h1")
        return self.page

    def check(self) -> None:
        """Nothing was complained of, and nothing asked for elsewhere."""
        strangers = [r.url for r in self.requests if not r.url.startswith((self.url, "data:"))]
        assert strangers == []
        known = tuple(f"status of {status} " for status in self.allowed)
        unknown = [c for c in self.complaints if not (known and any(k in c for k in known))]
        assert unknown == []


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """As a new person on a new machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def visitor(context: BrowserContext, window: ServerProcess) -> Iterator[Visitor]:
    """Somebody who looks at the dashboard."""
    found = visit(context, window.url)
    yield found
    found.check()


def visit(context: BrowserContext, url: str) -> Visitor:
    """A page that is watched."""
    found = Visitor(context.new_page(), url)
    found.page.on(
        "console",
        lambda m: found.complaints.append(m.text) if m.type in ("error", "warning") else None,
    )
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.on("request", lambda request: found.requests.append(request))
    return found
