"""Durable files: whole or not there, whatever happens while they are written.

A file is written beside its final name, synced and renamed, and the folder that names it is synced.
"""

import os
from collections.abc import Callable
from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically and durably."""
    replace_file(path, lambda draft: draft.write_bytes(content))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Put a new file in the place of `path`, atomically and durably.

    Args:
        path: of the file; its folder exists.
        write: writes the file to the path that it is given. If it fails, the old file stays.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        write(draft)
        sync(draft)
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
