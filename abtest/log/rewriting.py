"""Rewriting: files of the archive as one new file, with all their events or without some."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from abtest.log.columns import SCHEMA, conform

GROUP_EVENTS = 100_000
"""Of a row group of a rewritten file: what a reader takes in at once."""

Keep = Callable[[pa.Table], pa.Table]


def rewrite(files: Sequence[Path], draft: Path, *, keep: Keep, renew: Callable[[], object]) -> int:
    """Write the events of some files, in their order, to a draft.

    Args:
        files: of one day.
        draft: that is written; it is overwritten where it exists.
        keep: the events to keep of those it is given, which have all columns.
        renew: called between parts, to tell that it goes on.

    Returns:
        Number of events written.
    """
    written = 0
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(draft, SCHEMA, compression="zstd") as writer:
        for file in files:
            for part in parts(file):
                renew()
                waiting.append(keep(conform(part)))
                if sum(len(table) for table in waiting) >= GROUP_EVENTS:
                    written += _flush(writer, waiting)
        if waiting:
            written += _flush(writer, waiting)
    return written


def parts(file: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a file, each read when it is its turn."""
    with pq.ParquetFile(file) as source:
        for number in range(source.num_row_groups):
            yield source.read_row_group(number, columns)


def _flush(writer: pq.ParquetWriter, waiting: list[pa.Table]) -> int:
    table = pa.concat_tables(waiting)
    waiting.clear()
    if len(table):
        writer.write_table(table, row_group_size=GROUP_EVENTS)
    return len(table)
