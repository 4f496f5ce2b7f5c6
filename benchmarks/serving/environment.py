"""Environments of the peers: each has one of its own, with torch and FAISS lent from ours.

Peers disagree with each other, and with us, about versions of what they share; none of them may be
installed beside us. Torch is a gigabyte, and must be the same for all, so they import ours.
"""

import subprocess
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

LENT = "lent.pth"
STAMP = "installed.txt"
SAME_VERSION = ("numpy", "orjson", "httptools", "uvloop")
"""Packages that a peer gets in the version that we have: numpy's must fit torch and FAISS."""
INSTALL_S = 600.0


class EnvironmentMissingError(RuntimeError):
    """A peer that could not be installed; the message says why."""


def python_of(folder: Path, requirements: tuple[str, ...]) -> Path:
    """The interpreter of an environment, made where it is not there as required.

    Args:
        folder: of the environment.
        requirements: pinned, as pip takes them.

    Raises:
        EnvironmentMissingError: pip failed.
    """
    python = folder / "bin" / "python"
    wanted = "\n".join((*requirements, *(f"{name}=={version(name)}" for name in SAME_VERSION)))
    stamp = folder / STAMP
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return python
    venv.create(folder, clear=True, with_pip=True, symlinks=True)
    _pip(python, wanted.split("\n"))
    site = Path(_ask(python, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    # Read last, so that what the peer installed goes first.
    (site / LENT).write_text(sysconfig.get_path("purelib") + "\n")
    stamp.write_text(wanted)
    return python


def installed(python: Path, package: str) -> str:
    """Version of a package there."""
    return _ask(python, f"from importlib.metadata import version; print(version({package!r}))")


def _pip(python: Path, requirements: list[str]) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-input", *requirements]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentMissingError(
            f"pip took over {INSTALL_S:.0f} s to install {requirements[0]}"
        ) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = said[0] if said else f"exit status {done.returncode}"
        raise EnvironmentMissingError(f"pip could not install {requirements[0]}: {reason}")


def _ask(python: Path, program: str) -> str:
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()
