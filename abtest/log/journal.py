"""Journal: records on the local disk, in order, until the store has them safely.

A folder of segments, written by one process. Positions count the bytes of all frames ever appended.
A write survives the end of the process, `sync` makes it survive a power cut. `advance` says up to
where the store has everything; what lies before is deleted.
"""

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from abtest.log.segment import (
    Segment,
    framed,
    frames_size,
    read_records,
    recover,
    segment_path,
    segment_paths,
)

SEGMENT_BYTES = 8 << 20
MAX_BYTES = 2 << 30
"""What is kept at most for a store that is away: about half a million answers."""

_LOCK = "lock"
_ADVANCED = "advanced"

logger = logging.getLogger(__name__)


class JournalError(RuntimeError):
    """The journal cannot be used or cannot take a record; the message names the remedy."""


def open_journal(
    root: Path, *, segment_bytes: int = SEGMENT_BYTES, max_bytes: int = MAX_BYTES
) -> "Journal":
    """The first journal below `root` that no living process has, or a new one.

    Args:
        root: holds the journals of all workers, `root/0`, `root/1` and so on.
        segment_bytes: a segment is followed by the next once it is this large.
        max_bytes: records are refused where the store lacks more than this.

    Raises:
        JournalError: the folder cannot be used.
    """
    number = 0
    while (lock := _take_lock(root / str(number))) is None:
        number += 1
    return Journal(root / str(number), lock, segment_bytes=segment_bytes, max_bytes=max_bytes)


def open_abandoned(root: Path) -> Iterator["Journal"]:
    """Journals below `root` with records and without a living process; the caller closes each.

    Raises:
        JournalError: a folder cannot be used.
    """
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        lock = _take_lock(folder) if segment_paths(folder) else None
        if lock is not None:
            yield Journal(folder, lock)


class Journal:
    """One process's journal. All methods but `sync` are for one thread."""

    def __init__(
        self,
        folder: Path,
        lock: IO[bytes],
        *,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Open a folder whose lock is held; see `open_journal`."""
        self.folder = folder
        self._lock = lock
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._file: int | None = None
        self._file_start = 0
        self._synced_name = -1
        self._retired: list[int] = []
        try:
            noted = _noted_position(folder)
            self._closed = recover(folder, noted)
            self.end = self._closed[-1].end if self._closed else noted
            first = self._closed[0].start if self._closed else noted
            # A power cut can take the end of the records and leave a position noted beyond it.
            self.advanced = min(max(noted, first), self.end)
            self._note()
        except OSError as error:
            lock.close()
            raise _unusable(folder, error) from error

    @property
    def backlog_bytes(self) -> int:
        """Size of what the store does not have for sure."""
        return self.end - self.advanced

    def append(self, records: Sequence[bytes]) -> int:
        """Write records, all or none; the position after them.

        Raises:
            JournalError: the disk or the journal is full; nothing was written.
        """
        frames = framed(records)
        if self.backlog_bytes + len(frames) > self._max_bytes:
            raise JournalError(
                f"journal {self.folder} holds {self.backlog_bytes} bytes that the store has not "
                f"taken, and the limit is {self._max_bytes}; bring the store back"
            )
        try:
            self._write(frames)
        except OSError as error:
            raise JournalError(
                f"journal {self.folder} cannot be written ({error.strerror}); "
                "free space on its disk"
            ) from error
        self.end += len(frames)
        return self.end

    def sync(self) -> None:
        """Wait until everything appended before is on the disk.

        May run in another thread than `append`, one call at a time.

        Raises:
            JournalError: the disk does not take it.
        """
        # In this order: a file that is retired meanwhile is then synced twice, not never.
        current = self._file
        retired, self._retired = self._retired, []
        newest = self._file_start
        try:
            for descriptor in (*retired, *(() if current is None else (current,))):
                os.fsync(descriptor)
            if newest != self._synced_name:
                _sync_folder(self.folder)
                self._synced_name = newest
        except OSError as error:
            raise JournalError(
                f"journal {self.folder} cannot be synced ({error.strerror}); check its disk"
            ) from error
        finally:
            for descriptor in retired:
                os.close(descriptor)

    def read(self, position: int, max_bytes: int) -> tuple[list[bytes], int]:
        """Records from a position on, and the position after them, which is the same at the end.

        Args:
            position: `advanced`, or as `append` or `read` returned it.
            max_bytes: read at most so much, but at least one record.

        Raises:
            JournalError: a segment cannot be read.
        """
        segment = next((s for s in self._segments() if position < s.end), None)
        if segment is None:
            return [], self.end
        start = max(position, segment.start)
        try:
            records = read_records(segment, start, max_bytes)
        except OSError as error:
            raise _unusable(self.folder, error) from error
        if not records:
            logger.error(
                "%s is damaged; %d bytes of it are lost", segment.path, segment.end - start
            )
            return [], segment.end
        return records, start + frames_size(records)

    def advance(self, position: int) -> None:
        """Note that the store has everything before `position`, and delete what it can.

        Raises:
            JournalError: that cannot be noted; what lies before may be sent again.
        """
        self.advanced = max(self.advanced, position)
        try:
            while self._closed and self._closed[0].end <= self.advanced:
                self._closed[0].path.unlink(missing_ok=True)
                del self._closed[0]
            self._note()
        except OSError as error:
            raise _unusable(self.folder, error) from error

    def rotate(self) -> None:
        """Begin a new segment, so that what is before it goes as soon as the store has it.

        Raises:
            JournalError: a segment that can go cannot be deleted.
        """
        if self._file is not None and self.end > self._file_start:
            self._retire(self._file)
        self.advance(self.advanced)

    def close(self) -> None:
        """Close the files and let the folder go; what the store lacks stays."""
        for descriptor in (*self._retired, *(() if self._file is None else (self._file,))):
            os.close(descriptor)
        if not self.backlog_bytes:
            for segment in self._segments():
                segment.path.unlink(missing_ok=True)
        self._file, self._retired = None, []
        self._lock.close()

    def _segments(self) -> tuple[Segment, ...]:
        if self._file is None:
            return tuple(self._closed)
        return (*self._closed, self._open_segment())

    def _open_segment(self) -> Segment:
        return Segment(segment_path(self.folder, self._file_start), self._file_start, self.end)

    def _write(self, frames: bytes) -> None:
        if self._file is not None and self.end - self._file_start >= self._segment_bytes:
            self._retire(self._file)
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC
            self._file = os.open(segment_path(self.folder, self.end), flags, 0o600)
            self._file_start = self.end
        written = 0
        try:
            while written < len(frames):
                written += os.write(self._file, memoryview(frames)[written:])
        except OSError:
            try:
                os.ftruncate(self._file, self.end - self._file_start)
            except OSError:
                self._retire(self._file)  # nothing may follow what is torn
            raise

    def _retire(self, file: int) -> None:
        """Write no more to the open file; it is closed when it is synced."""
        if self.end > self._file_start:
            self._closed.append(self._open_segment())
        self._retired.append(file)
        self._file = None

    def _note(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.folder / _ADVANCED, flags, 0o600)
        try:
            os.pwrite(descriptor, b"%020d\n" % self.advanced, 0)
        finally:
            os.close(descriptor)


def _take_lock(folder: Path) -> IO[bytes] | None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / _LOCK).open("ab")
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _noted_position(folder: Path) -> int:
    path = folder / _ADVANCED
    noted = path.read_bytes().strip() if path.exists() else b""
    return int(noted) if noted.isdigit() else 0


def _unusable(folder: Path, error: OSError) -> JournalError:
    return JournalError(
        f"journal {folder} cannot be used ({error.strerror}); "
        "make it writable and free space on its disk"
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
