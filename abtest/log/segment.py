"""Segment: one file of a journal, a run of frames. A frame is length, CRC-32 and record.

Whatever ended the process that wrote it, a segment is whole up to its last whole frame.
"""

import logging
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_FRAME = struct.Struct("<II")
_NAME = re.compile(r"\d{20}\.log")

logger = logging.getLogger(__name__)


class Segment(NamedTuple):
    """A file and the positions of its first byte and after its last whole frame."""

    path: Path
    start: int
    end: int


def segment_path(folder: Path, start: int) -> Path:
    """Where the segment that begins at a position lies."""
    return folder / f"{start:020}.log"


def segment_paths(folder: Path) -> list[Path]:
    """The segments of a folder, in order."""
    return sorted(path for path in folder.glob("*.log") if _NAME.fullmatch(path.name))


def framed(records: Sequence[bytes]) -> bytes:
    """The frames of records, none of which may be empty."""
    return b"".join(_FRAME.pack(len(record), zlib.crc32(record)) + record for record in records)


def frames_size(records: Sequence[bytes]) -> int:
    """Bytes that the frames of records take."""
    return sum(_FRAME.size + len(record) for record in records)


def recover(folder: Path, advanced: int) -> list[Segment]:
    """The segments that hold records after position `advanced`, torn ends cut off.

    Segments wholly before it are deleted.

    Raises:
        OSError: a file cannot be read, cut or deleted.
    """
    found: list[Segment] = []
    for path in segment_paths(folder):
        start, size = int(path.stem), path.stat().st_size
        if size == 0 or start + size <= advanced:
            path.unlink()
            continue
        if found and found[-1].end < start:
            logger.error("journal %s lost %d bytes", folder, start - found[-1].end)
        with path.open("rb+") as file:
            whole = frames_size(list(records_of(file.read())))
            if whole < size:
                logger.warning("%s: a torn end of %d bytes is cut off", path, size - whole)
                file.truncate(whole)
        if whole:
            found.append(Segment(path, start, start + whole))
    return found


def read_records(segment: Segment, position: int, max_bytes: int) -> list[bytes]:
    """Whole records of a segment from a position on; none if it is damaged there.

    Args:
        segment: that holds the position.
        position: of a frame.
        max_bytes: read at most so much, but at least one record.

    Raises:
        OSError: the file cannot be read.
    """
    with segment.path.open("rb") as file:
        file.seek(position - segment.start)
        content = file.read(min(max_bytes, segment.end - position))
        records = list(records_of(content))
        if not records:
            content += file.read(segment.end - position - len(content))
            records = [record for record, _ in zip(records_of(content), range(1), strict=False)]
    return records


def records_of(content: bytes) -> Iterator[bytes]:
    """The records at the beginning of a segment's content, up to the first that is damaged."""
    at = 0
    while at + _FRAME.size <= len(content):
        length, checksum = _FRAME.unpack_from(content, at)
        at += _FRAME.size + length
        record = content[at - length : at]
        # A power cut can leave zeros at the end of a file; they are no record of length 0.
        if length == 0 or at > len(content) or zlib.crc32(record) != checksum:
            return
        yield record
