"""Key ring: how a running server follows its keys."""

from pathlib import Path

import pytest

from serving.api.key_ring import RELOAD_INTERVAL_S, KeyRing
from serving.api.keys import EVENTS, KEYS_FILE, RECOMMEND, KeysError, new_key, write_keys


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Counted:
    """How often it was called."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_a_ring_follows_its_file_and_revoking_the_last_key_opens_nothing(tmp_path: Path) -> None:
    path, clock = tmp_path / KEYS_FILE, Clock()
    ring = KeyRing(path, (), clock, Counted())
    assert not ring.secured()
    key, token = new_key("shop", [RECOMMEND], None)
    write_keys(path, [key])
    assert ring.find(token) is None  # it does not look all the time
    clock.now_s += RELOAD_INTERVAL_S
    assert ring.find(token) == key
    assert ring.secured()
    write_keys(path, [])
    clock.now_s += RELOAD_INTERVAL_S
    assert ring.find(token) is None
    path.unlink()
    clock.now_s += RELOAD_INTERVAL_S
    assert ring.find(token) is None
    assert ring.secured()


def test_a_bad_change_keeps_the_keys_and_is_counted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock, bad_files = tmp_path / KEYS_FILE, Clock(), Counted()
    key, token = new_key("shop", [RECOMMEND], None)
    write_keys(path, [key])
    ring = KeyRing(path, (), clock, bad_files)
    path.write_text("[[keys]")
    for _ in range(3):
        clock.now_s += RELOAD_INTERVAL_S
        assert ring.find(token) == key
    assert bad_files.times == 1
    assert "the keys stay as they were: " in caplog.text


def test_fixed_keys_stay_and_must_not_share_names(tmp_path: Path) -> None:
    path = tmp_path / KEYS_FILE
    key, token = new_key("shop", [RECOMMEND], None)
    ring = KeyRing(path, [key], Clock(), Counted())
    assert ring.find(token) == key
    assert ring.find(token + "x") is None
    assert ring.find("") is None
    write_keys(path, [new_key("shop", [EVENTS], None)[0]])
    with pytest.raises(KeysError, match=r"CASCADE_API_KEYS and .*toml: the name 'shop' is taken"):
        KeyRing(path, [key], Clock(), Counted())


def test_only_the_beginning_of_a_hash_is_not_enough(tmp_path: Path) -> None:
    key, token = new_key("shop", [RECOMMEND], None)
    near = key.model_copy(update={"sha256": key.sha256[:32] + "0" * 32})
    assert KeyRing(tmp_path / KEYS_FILE, [near], Clock(), Counted()).find(token) is None
    assert not list(tmp_path.iterdir())
