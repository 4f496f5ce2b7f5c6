"""Who may look and who may change, asked for by the page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, expect

from serving.api.keys import ADMIN, EXPERIMENTS, KEYS_FILE, RECOMMEND, new_key, write_keys
from tests.dashboard.conftest import Visitor, visit
from tests.serving.world import ServerProcess, write_world

KEY = "dftopk-vs-baseline"


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServerProcess, dict[str, str]]]:
    data_dir = tmp_path_factory.mktemp("secured")
    write_world(data_dir)
    made = {s: new_key(f"the-{s}", [s], None) for s in (RECOMMEND, EXPERIMENTS, ADMIN)}
    write_keys(data_dir / KEYS_FILE, [key for key, _ in made.values()])
    server = ServerProcess(data_dir)
    server.start()
    yield server, {scope: token for scope, (_, token) in made.items()}
    assert server.stop() == 0, server.log_path.read_text()


def sign_in(visitor: Visitor, token: str) -> None:
    visitor.page.get_by_label("API key").fill(token)
    visitor.page.get_by_role("button", name="Open").click()


def test_key_is_asked_for_kept_in_the_tab_and_forgotten(
    context: BrowserContext, secured: tuple[ServerProcess, dict[str, str]]
) -> None:
    server, tokens = secured
    visitor = visit(context, server.url)
    visitor.allowed |= {401, 403, 404}
    page = visitor.open(f"#/experiments/{KEY}")
    expect(page.locator("h1")).to_have_text("This server wants a key")
    assert page.get_by_role("alert").filter(has_text="refused").count() == 0
    sign_in(visitor, "cascade_wrong")
    expect(page.get_by_text("That key was refused: the API key is not in force")).to_be_visible()

    sign_in(visitor, tokens[RECOMMEND])
    expect(page.locator("h1")).to_have_text("This key cannot see experiments")
    expect(page.locator("main")).to_contain_text("needs scope 'experiments'")
    page.get_by_role("button", name="Use another key").click()

    sign_in(visitor, tokens[EXPERIMENTS])
    expect(page.locator("h1")).to_have_text(KEY)
    expect(page.locator("#caller")).to_have_text("the-experiments · read only")
    actions = page.get_by_role("group", name="Actions").get_by_role("button")
    assert actions.count() > 1
    assert all(button.is_disabled() for button in actions.all())
    expect(page.locator("#why-not")).to_contain_text("changes need the scope admin")
    expect(page.locator("main")).to_contain_text("shown to keys with the scope admin only")
    page.reload()
    expect(page.locator("h1")).to_have_text(KEY)
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]

    page.get_by_role("button", name="Forget key").click()
    expect(page.locator("h1")).to_have_text("This server wants a key")
    sign_in(visitor, tokens[ADMIN])
    expect(page.locator("h1")).to_have_text(KEY)
    assert all(button.is_enabled() for button in actions.all())
    expect(page.locator(".feed")).to_have_count(1)
    visitor.check()
    assert not [r.url for r in visitor.requests if "cascade_" in r.url]
