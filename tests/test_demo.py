"""The demo: that it runs twice in one folder, and leaves no process behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from cli import main
from demo import DemoError, Size, run_demo, serve
from serving.state.valkey import EmbeddedValkey
from tests.serving.world import ServerProcess, write_world

TINY = Size(
    train=("--set", "train_requests=512", "--set", "evaluations=1",
           "--set", "validation_requests=30"),
    evaluate=("--limit", "50"),
    replay=("--limit", "80"),
)  # fmt: skip


def never(*_: object) -> None:
    raise AssertionError("no command was to be run")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_demo_runs_and_runs_again_in_the_same_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    var = tmp_path / "var"
    ran: list[str] = []

    def cascade(*words: str | Path) -> None:
        ran.append(str(words[0]))
        main.main([str(word) for word in words], standalone_mode=False)

    run_demo(cascade, var, TINY, seed=1)
    steps = ["train"] * 2 + ["evaluate"] + ["export"] * 2 + ["replay", "report"]
    assert ran == ["data", *steps]
    out = capfd.readouterr().out
    assert re.findall(r"^\d/7 \w+", out, re.MULTILINE) == [
        "1/7 Data", "2/7 Training", "3/7 Evaluation", "4/7 Export", "5/7 Serving", "6/7 Traffic",
        "7/7 Report",
    ]  # fmt: skip
    assert f"cascade serve --data-dir {var}" in out.rpartition("What now")[2]
    ran.clear()
    run_demo(cascade, var, TINY, seed=1)
    assert ran == steps  # the data is there already
    assert "Prepared before" in capfd.readouterr().out
    cascade("report", "dftopk-vs-baseline", "--data-dir", var, "--json")
    report = capfd.readouterr().out
    # The second run's trips alone: the first run's events are gone.
    assert sum(arm["requests"] for arm in json.loads(report)["arms"]) == 80
    assert (var / "reports" / "dftopk-vs-baseline.html").is_file()


def test_demo_does_not_touch_what_a_server_uses(tmp_path: Path) -> None:
    write_world(tmp_path)
    server = ServerProcess(tmp_path)
    server.start()
    with pytest.raises(DemoError, match=r"a server is running on .*; stop it first, or choose an"):
        run_demo(never, tmp_path, TINY, seed=0)
    server.wait_until_ready()
    assert server.stop() == 0


def test_demo_wants_a_store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_REDIS_URL", "redis://localhost")
    with pytest.raises(DemoError, match="store of its own; unset CASCADE_REDIS_URL"):
        run_demo(never, tmp_path, TINY, seed=0)


def test_a_killed_server_s_valkey_does_not_stand_in_the_way(tmp_path: Path) -> None:
    write_world(tmp_path)
    server = ServerProcess(tmp_path)
    server.start()
    pid = valkey_of(tmp_path)
    server.kill()
    with pytest.raises(AssertionError, match="no command was to be run"):
        run_demo(never, tmp_path, TINY, seed=0)
    wait_until_gone(pid)
    assert not (tmp_path / "valkey").exists()


def test_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(DemoError, match=r"did not start: Error: .*experiments\.toml does not exist"),
        serve(tmp_path),
    ):
        raise AssertionError("unreachable")


def test_server_that_ends_badly_is_told(tmp_path: Path) -> None:
    write_world(tmp_path)
    with pytest.raises(DemoError, match=r"the server ended with code -9: "), serve(tmp_path):
        os.kill(server_of(tmp_path), signal.SIGKILL)
    EmbeddedValkey(tmp_path / "valkey").close()  # what the killed server left behind


def test_an_error_inside_the_block_stops_server_and_store(tmp_path: Path) -> None:
    write_world(tmp_path)
    pids = []
    with pytest.raises(ZeroDivisionError), serve(tmp_path):
        pids += [server_of(tmp_path), valkey_of(tmp_path), 1 // 0]
    for pid in pids:
        wait_until_gone(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    """The whole foreground group gets a Ctrl-C; SIGTERM reaches the demo alone."""
    write_world(tmp_path)
    program = (
        "import sys, time, demo; from pathlib import Path\n"
        "with demo.serve(Path(sys.argv[1])): time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while "Started server process" not in (log_of(tmp_path) if logged(tmp_path) else ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server, valkey = server_of(tmp_path), valkey_of(tmp_path)
    if number is signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(30) != 0
    wait_until_gone(server)
    wait_until_gone(valkey)


def logged(data_dir: Path) -> bool:
    return (data_dir / "server.log").is_file()


def log_of(data_dir: Path) -> str:
    return (data_dir / "server.log").read_text()


def server_of(data_dir: Path) -> int:
    return int(re.findall(r"server process \[(\d+)\]", log_of(data_dir))[0])


def valkey_of(data_dir: Path) -> int:
    with redis.Redis(unix_socket_path=str(data_dir / "valkey" / "valkey.sock")) as client:
        pid: int = client.info("server")["process_id"]
    return pid


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)
