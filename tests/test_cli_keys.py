"""`cascade keys`: shown once, kept as a hash, and mistakes are told with their remedy."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import main
from serving.api.keys import SCOPES, hashed, parse_variable, read_keys


def cascade(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def test_create_list_and_revoke(tmp_path: Path) -> None:
    where = ("--data-dir", tmp_path)
    made = cascade(
        "keys", "create", "shop", "--scope", "events", "--scope", "recommend", "--rate", "9", *where
    )
    token = made.stdout.strip()
    assert re.fullmatch(r"cascade_[A-Za-z0-9_-]{43}", token)
    assert made.stderr == f"kept as a hash in {tmp_path}/keys.toml; the key is not shown again\n"
    cascade("keys", "create", "operator", "--scope", "admin", *where)
    shop_key, _ = read_keys(tmp_path / "keys.toml")
    assert shop_key.sha256 == hashed(token)
    head, shop, operator = cascade("keys", "list", *where).stdout.splitlines()
    assert re.fullmatch(r"name +scopes +created +requests/s", head)
    assert re.fullmatch(r"shop +events recommend +20\d\d-\d\d-\d\d \d\d:\d\d +9", shop)
    assert operator.startswith("operator  admin ")
    assert cascade("keys", "revoke", "shop", *where).stderr == "shop is revoked\n"
    assert [key.name for key in read_keys(tmp_path / "keys.toml")] == ["operator"]


def test_a_key_for_the_environment_is_kept_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASCADE_DATA_DIR", str(tmp_path))
    made = cascade("keys", "create", "shop", "--scope", "recommend", "--env").stdout
    variables = dict(line.split("=", 1) for line in made.splitlines())
    (key,) = parse_variable(variables["CASCADE_API_KEYS"])
    assert key.sha256 == hashed(variables["CASCADE_API_KEY"])
    assert not list(tmp_path.iterdir())


def test_mistakes_are_told(tmp_path: Path) -> None:
    where = ("--data-dir", tmp_path)
    cascade("keys", "create", "shop", "--scope", "events", *where)
    for words, message in (
        (("create", "shop", "--scope", "events"), "there is a key 'shop' in .*; choose another"),
        (("create", "a b", "--scope", "events"), "name = 'a b': String should match pattern"),
        (
            ("create", "a", "--scope", "events", "--rate", "0"),
            "rate_per_s = 0.0: Input should be g",
        ),
        (("create", "a", "--scope", "all"), "'all' is not one of 'recommend'"),
        (("create", "a"), "Missing option '--scope'"),
        (("revoke", "none"), "there is no key 'none' in .*; there are: shop"),
    ):
        assert re.search(message, cascade("keys", *words, *where, code=2).stderr)


def test_the_command_knows_every_scope() -> None:
    shown = cascade("keys", "--help").stdout
    listed = re.findall(r"^  +(\w+)   +\w", shown.split("Scopes:")[1].split("Options:")[0], re.M)
    assert tuple(listed) == SCOPES
