"""A worker of a server with several: `python -m serving.worker FD`, started by its master.

FD is the worker's end of a socket pair, through which the master passes accepted connections. The
settings are in the environment, as those of any server.
"""

import logging
import socket
import sys

from abtest.experiment import ExperimentError
from serving.server import run_worker
from serving.settings import Settings
from serving.state.store import StoreError
from training.bundle import BundleError


def main(descriptor: int) -> int:
    """Serve; 0 at the end, 2 where it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    try:
        run_worker(Settings(), socket.socket(fileno=descriptor))
    except (ExperimentError, BundleError, StoreError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
