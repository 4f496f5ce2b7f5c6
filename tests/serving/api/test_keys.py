"""Keys: what is kept, what is refused and in which words."""

import re
from pathlib import Path

import pytest

from serving.api.keys import (
    EVENTS,
    KEYS_FILE,
    RECOMMEND,
    KeysError,
    as_variable,
    hashed,
    new_key,
    parse_variable,
    read_keys,
    write_keys,
)

HASH = "0" * 64


def test_a_key_is_256_random_bits_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    key, token = new_key("shop", [RECOMMEND, EVENTS], 50.0)
    assert re.fullmatch(r"cascade_[A-Za-z0-9_-]{43}", token)
    assert token != new_key("shop", [RECOMMEND], None)[1]
    assert key.sha256 == hashed(token)
    path = tmp_path / KEYS_FILE
    write_keys(path, [key])
    assert token not in path.read_text()
    assert token.removeprefix("cascade_") not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_keys(path) == (key,)
    assert [entry.name for entry in tmp_path.iterdir()] == [KEYS_FILE]


def test_keys_of_the_environment(tmp_path: Path) -> None:
    shop, _ = new_key("shop", [RECOMMEND, EVENTS], 2.5)
    tester, _ = new_key("tester", ["admin"], None)
    text = f"{as_variable(shop)},\n {as_variable(tester)}"
    assert as_variable(shop) == f"shop:events+recommend:{shop.sha256}:2.5"
    found = parse_variable(text)
    assert [key.model_copy(update={"created": None}) for key in (shop, tester)] == list(found)
    assert parse_variable("") == ()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "shop",
            r"entry 'shop' has 1 parts and needs NAME:SCOPE\+SCOPE:SHA256\[:RATE_PER_S\]; `ca",
        ),
        (f"shop:write:{HASH}", "entry 'shop': scope 'write' is unknown; there are recommend, even"),
        ("shop:events:cascade_secret", "sha256 must be 64 hexadecimal digits; correct it$"),
        (f"shop:events:{HASH}:0", "rate_per_s = '0': Input should be greater than 0; correct it"),
        (f"a/b:events:{HASH}", "name = 'a/b': String should match pattern"),
        (f"a:events:{HASH},a:admin:{HASH}", "CASCADE_API_KEYS: the name 'a' is taken twice; rev"),
    ],
)
def test_wrong_variables(text: str, message: str) -> None:
    with pytest.raises(KeysError, match=message) as raised:
        parse_variable(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[keys]", r"keys\.toml is no TOML: .*; restore it, or remove it"),
        ("[[keys]]\nname = 'a'\n", r"keys\.toml: keys\.0\.scopes = .*: Field required; correct it"),
        ("key = 1\n", r"keys\.toml: key = 1: Extra inputs are not permitted; correct it"),
        (
            f"[[keys]]\nname = 'a'\nscopes = ['all']\nsha256 = '{HASH}'\n",
            r"scope 'all' is unknown; there are recommend, events, explain, metrics, experiments",
        ),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / KEYS_FILE
    path.write_text(text)
    with pytest.raises(KeysError, match=message):
        read_keys(path)


def test_a_file_that_others_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / KEYS_FILE
    write_keys(path, [])
    path.chmod(0o620)
    with pytest.raises(KeysError, match=r"can be written by other users; run `chmod 600 .*toml`"):
        read_keys(path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / KEYS_FILE).mkdir(mode=0o700)
    with pytest.raises(KeysError, match=r"cannot be read \(.*\); make it this user's own"):
        read_keys(tmp_path / KEYS_FILE)
