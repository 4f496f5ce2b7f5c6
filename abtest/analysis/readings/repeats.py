"""Repeats: items that stand in several parts, so that each still counts once an answer.

An item counts on the day it was first seen, clicked or bought. What the other parts counted of it
is taken off by rows of negative numbers, made once for a set of parts.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb

from abtest.analysis.readings.durable import sync
from abtest.analysis.readings.part import DRAFT, ITEMS, REQUESTS, Part
from abtest.analysis.readings.tally import Tallies

_PREFIX: Final = "repeats-"
_ACROSS = """
CREATE OR REPLACE TEMP TABLE across AS
SELECT request FROM all_requests GROUP BY request HAVING count(*) > 1
"""
_REPEATS = """
SELECT part, day, split, unit, {columns}
FROM (
    SELECT *, row_number() OVER (PARTITION BY request, position, bit ORDER BY day, part) AS nth
    FROM (
        SELECT part, day, split, unit, request, position, unnest(range({bits})) AS bit, mask
        FROM all_items SEMI JOIN across USING (request)
    )
    WHERE (mask >> bit) & 1 = 1
)
WHERE nth > 1 GROUP BY ALL ORDER BY ALL
"""


def find(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[Part], kept: Tallies, rollups: Path
) -> Path:
    """The file of repeats of these parts, made if it is not there; others are removed."""
    text = ",".join(sorted(f"{part.folder.name}" for part in parts))
    name = f"{_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:16]}.parquet"
    target = rollups / name
    if not target.is_file():
        _write(connection, parts, kept, target)
    for other in rollups.glob(f"{_PREFIX}*"):
        if other != target:
            other.unlink()
    return target


def _write(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[Part], kept: Tallies, target: Path
) -> None:
    for name, file in (("all_requests", REQUESTS), ("all_items", ITEMS)):
        files = [str(part.folder / file) for part in parts]
        connection.read_parquet(files, hive_partitioning=False).create_view(name, replace=True)
    connection.execute(_ACROSS)
    columns = ", ".join(
        f"-count(*) FILTER (bit = {bit})::BIGINT AS {tally.name}"
        for bit, tally in enumerate(kept.items)
    )
    query = _REPEATS.format(columns=columns, bits=len(kept.items))
    draft = target.with_name(target.name + DRAFT)
    connection.sql(query).write_parquet(str(draft), compression="zstd")
    sync(draft)
    draft.rename(target)
    sync(target.parent)
