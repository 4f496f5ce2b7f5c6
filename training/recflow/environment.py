"""Environment: what a run was made with, for whoever asks why two runs differ."""

import platform
import subprocess
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from operators.kernels import cpu
from training.kernels.library import library

CPUINFO = Path("/proc/cpuinfo")
SOURCES = Path(__file__).parent


class Environment(BaseModel):
    """Versions and machine; nothing about who runs it, or where on the disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    python: str
    torch: str
    numpy: str
    system: str
    processor: str
    device: str
    """What the model is on: the processor, or the name of a GPU."""
    threads: int
    """Of torch, in each process."""
    processes: int
    """That train the run together."""
    kernels: bool
    """Whether all compiled kernels were there; torch operations run without them."""
    commit: str | None
    """Of the sources, None outside of a git checkout; `+` follows where files were changed."""


def environment(device: torch.device, processes: int) -> Environment:
    """The environment of this process.

    Args:
        device: that the model is on.
        processes: that train together.
    """
    on_gpu = device.type == "cuda"
    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        system=f"{platform.system()} {platform.machine()}",
        processor=processor(),
        device=torch.cuda.get_device_name(device) if on_gpu else str(device),
        threads=torch.get_num_threads(),
        processes=processes,
        kernels=cpu.built() and library() is not None,
        commit=commit(SOURCES),
    )


def processor() -> str:
    """Name of the processor, as far as the system tells it."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit(folder: Path) -> str | None:
    """The commit a folder's files are of, with `+` if one was changed; None where git knows none.

    Args:
        folder: in a checkout, or not.
    """
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    if head is None or _git(folder, "ls-files", "--error-unmatch", ".") is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{head}+" if changed else head


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
