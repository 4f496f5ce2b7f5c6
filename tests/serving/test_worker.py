"""A worker and its channel: it ends with its master, whenever that is killed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serving.server import READY
from tests.serving.world import write_world


def start(data_dir: Path, channel: socket.socket) -> "subprocess.Popen[bytes]":
    settings = {"CASCADE_DATA_DIR": str(data_dir), "CASCADE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "serving.worker", str(channel.fileno())],
        env=os.environ | settings,
        pass_fds=(channel.fileno(),),
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("moment", ["starting", "ready and unheard", "ready"])
def test_a_worker_ends_when_its_master_is_gone(tmp_path: Path, moment: str) -> None:
    write_world(tmp_path)
    mine, its = socket.socketpair()
    worker = start(tmp_path, its)
    its.close()
    if moment == "ready":
        assert mine.recv(1) == READY
    elif moment == "ready and unheard":
        assert mine.recv(1, socket.MSG_PEEK) == READY
    mine.close()
    try:
        _, said = worker.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        worker.send_signal(signal.SIGKILL)
        raise
    assert worker.returncode == 0, said.decode()
    assert b"Traceback" not in said, said.decode()
    assert not (tmp_path / "valkey" / "valkey.sock").exists()
