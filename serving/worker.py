"""A worker of a server with several: `python -m serving.worker FD`, started by its master.

FD is the worker's end of a socket pair, through which the master passes accepted connections. The
settings are in the environment, as those of any server.
"""

import socket
import sys

from abtest.split.experiment import ExperimentError
from serving.server import run_worker
from serving.settings import Settings
from serving.state.store import StoreError
from serving.telemetry import logs
from training.bundle import BundleError


def main(descriptor: int) -> int:
    """Serve; 0 at the end, 2 where it cannot start."""
    settings = Settings()
    logs.configure(settings.log_format)
    try:
        run_worker(settings, socket.socket(fileno=descriptor))
    except (ExperimentError, BundleError, StoreError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
