"""What a benchmark ran on: a time means nothing without its machine and its versions."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from training.recflow.environment import processor

CACHE = Path("/sys/devices/system/cpu/cpu0/cache")
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def last_level_cache() -> int | None:
    """Bytes of the largest cache that a core reaches; None where the system does not tell."""
    sizes = [path.read_text().strip() for path in CACHE.glob("index*/size")]
    known = [int(size[:-1]) * UNITS[size[-1]] for size in sizes if size[-1:] in UNITS]
    return max(known, default=None)


def machine() -> str:
    """One line: processor, cores, cache, system, and how busy it was before anything was timed."""
    parts = [processor(), f"{cores()} cores" if cores() > 1 else "1 core"]
    cache = last_level_cache()
    if cache is not None:
        parts.append(f"{cache / 2**20:.0f} MiB last-level cache")
    parts.append(platform.system())
    if hasattr(os, "getloadavg"):
        parts.append(f"load average {os.getloadavg()[0]:.1f} at the start")
    return ", ".join(parts)


def gpu() -> str | None:
    """One line: the first CUDA device and torch's CUDA version; None where there is none."""
    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    memory = f"{found.total_memory / 2**30:.0f} GiB"
    return f"{found.name}, {memory}, CUDA {torch.version.cuda}"


def versions(*packages: str) -> str:
    """One line: Python, torch, and the packages named."""
    found = [f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    return ", ".join([*found, *(f"{package} {version(package)}" for package in packages)])
