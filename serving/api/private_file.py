"""Private files: only their owner reads them, and they are whole on the disk or not there."""

import os
from pathlib import Path

OWNER_ONLY = 0o600


def create(path: Path, text: str) -> bool:
    """Write a file that is not there yet; False, and nothing changed, where it is.

    Raises:
        OSError: the folder cannot be written.
    """
    draft = _draft(path, text)
    try:
        # A link, unlike a rename, does not take the place of a file that is there.
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
        _sync_names(path.parent)
    return True


def replace(path: Path, text: str) -> None:
    """Write a file in the place of the one that may be there.

    Raises:
        OSError: the folder cannot be written.
    """
    _draft(path, text).rename(path)
    _sync_names(path.parent)


def _draft(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _sync_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
