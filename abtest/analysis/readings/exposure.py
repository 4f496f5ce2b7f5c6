"""Exposure: which units of a comparison count, and what the rollups hold of them.

A unit counts from the day of its first answer that was split. Units that were ever forced into a
variant, and those seen in several variants, do not count at all.
"""

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from abtest.analysis.readings.panel import Listed, Panel, Rows, number_of
from abtest.analysis.readings.part import ARMS, UNITS, VALUES
from abtest.analysis.readings.rollup import Rollups
from abtest.analysis.readings.subject import Subject
from abtest.analysis.sample import Int64

FEEDBACK: Final = "feedback"
"""Column of the number of events of feedback."""
REFUNDS: Final = "refunds"
"""Column of the number of refunds."""

_TRAFFIC = """
CREATE OR REPLACE TEMP VIEW traffic AS
FROM unit_rows UNION ALL BY NAME FROM repeat_rows
"""
_ARMS = """
CREATE OR REPLACE TEMP TABLE arms AS
SELECT part, split, variant, forced, "cluster" FROM arm_rows
WHERE "key" = $key AND revision = $revision
"""
_CARRIED = """
CREATE OR REPLACE TEMP TABLE carried AS
SELECT traffic.* EXCLUDE (unit), coalesce("cluster", unit) AS unit, variant
FROM traffic JOIN arms USING (part, split) WHERE NOT forced
"""
_FORCED = """
CREATE OR REPLACE TEMP TABLE forced_units AS
SELECT DISTINCT unit FROM traffic JOIN arms USING (part, split) WHERE forced
"""
_EXPOSED = """
CREATE OR REPLACE TEMP TABLE exposed AS
SELECT unit, min(variant) AS variant, min(first) AS first, count(DISTINCT variant) > 1 AS crossed
FROM carried WHERE unit NOT IN (SELECT unit FROM forced_units)
GROUP BY unit HAVING min(first) IS NOT NULL
"""
_KEPT = """
CREATE OR REPLACE TEMP TABLE kept AS
SELECT unit, variant, first.us // 86_400_000_000 AS first_day, first.context AS context,
    row_number() OVER (ORDER BY unit) - 1 AS number
FROM exposed WHERE NOT crossed
"""
_UNITS = "SELECT unit, variant, first_day, context FROM kept ORDER BY number"
_ROWS = """
SELECT number, day, {sums} FROM {table} JOIN kept USING (unit)
WHERE {days} GROUP BY number, day ORDER BY number, day
"""
_VALUES = """
SELECT measure, number, value_rows.day AS day, value
FROM value_rows JOIN arms USING (part, split)
    JOIN kept ON kept.unit = coalesce(arms."cluster", value_rows.unit)
WHERE NOT forced AND value_rows.day >= first_day
"""
_HISTORY = """
CREATE OR REPLACE TEMP TABLE kept AS
SELECT unit, '' AS variant, min(first).us // 86_400_000_000 AS first_day,
    min(first).context AS context, row_number() OVER (ORDER BY unit) - 1 AS number
FROM traffic WHERE day BETWEEN $since AND $until GROUP BY unit HAVING min(first) IS NOT NULL
"""
_HISTORY_VALUES = """
SELECT measure, number, day, value FROM value_rows JOIN kept USING (unit)
WHERE day >= first_day AND day <= {until}
"""
_IN_ORDER = "SELECT * FROM ({query}) WHERE measure = $measure ORDER BY number, value, day"
_UNEXPOSED = """
SELECT coalesce(sum(feedback), 0)::BIGINT FROM carried LEFT JOIN kept USING (unit)
WHERE unit NOT IN (SELECT unit FROM forced_units)
    AND unit NOT IN (SELECT unit FROM exposed WHERE crossed)
    AND (kept.unit IS NULL OR day < first_day)
"""
_ELSEWHERE = """
SELECT coalesce(sum(feedback), 0)::BIGINT - (
    SELECT coalesce(sum(feedback), 0)::BIGINT FROM carried JOIN kept USING (unit)
    WHERE day >= first_day
) FROM traffic JOIN kept USING (unit) WHERE day >= first_day
"""
_CURRENCIES = """
SELECT DISTINCT currencies FROM carried JOIN kept USING (unit)
WHERE day >= first_day AND currencies IS NOT NULL
"""


class Exposed(NamedTuple):
    """The units of a comparison, and who was left out of it."""

    panel: Panel
    variant: Int64
    """[U] Index of each unit's variant in `variants`."""
    variants: tuple[str, ...]
    """All that answers of the revision have, forced ones aside; sorted."""
    currencies: tuple[str, ...]
    """Of the revenue of these units, sorted."""
    crossed_units: int
    forced_units: int
    unexposed_feedback: int
    clustered: bool


def exposed(
    connection: duckdb.DuckDBPyConnection, rollups: Rollups, subject: Subject, before_days: int
) -> Exposed:
    """Units exposed to a revision.

    Args:
        connection: in which tables may be made.
        rollups: at least one part.
        subject: whose units.
        before_days: how many days before the first exposure are read.
    """
    _views(connection, rollups)
    connection.execute(_ARMS, {"key": subject.key, "revision": subject.revision})
    for query in (_CARRIED, _FORCED, _EXPOSED, _KEPT):
        connection.execute(query)
    clustered = _one(connection, 'SELECT count(*) FROM arms WHERE "cluster" IS NOT NULL') > 0
    units = _table(connection, _UNITS)
    names = _column(connection, "SELECT DISTINCT variant FROM carried ORDER BY variant")
    unexposed = _one(connection, _UNEXPOSED)
    if not clustered:
        unexposed += _one(connection, _ELSEWHERE)
    earlier = f"day < first_day AND day >= first_day - {0 if clustered else before_days}"
    panel = _panel(
        units,
        _rows(connection, rollups, len(units), "carried", "day >= first_day"),
        _rows(connection, rollups, len(units), "traffic", earlier),
        {tally.name: _listed(connection, _VALUES, tally.name) for tally in rollups.kept.values},
    )
    found = {part for text in _column(connection, _CURRENCIES) for part in text.split(",")}
    return Exposed(
        panel=panel,
        variant=_numbers(pc.index_in(units["variant"], pa.array(names, pa.string()))),
        variants=names,
        currencies=tuple(sorted(found)),
        crossed_units=_one(connection, "SELECT count(*) FROM exposed WHERE crossed"),
        forced_units=_one(connection, "SELECT count(*) FROM forced_units"),
        unexposed_feedback=unexposed,
        clustered=clustered,
    )


def everybody(
    connection: duckdb.DuckDBPyConnection,
    rollups: Rollups,
    since: date,
    until: date,
    before_days: int,
) -> Panel:
    """All units that got an answer in some days, as if an experiment had exposed them."""
    _views(connection, rollups)
    days = {"since": number_of(since), "until": number_of(until)}
    connection.execute(_HISTORY, days)
    earlier = f"day < first_day AND day >= first_day - {before_days}"
    values = _HISTORY_VALUES.format(until=days["until"])
    units = _table(connection, _UNITS)
    return _panel(
        units,
        _rows(
            connection,
            rollups,
            len(units),
            "traffic",
            f"day >= first_day AND day <= {days['until']}",
        ),
        _rows(connection, rollups, len(units), "traffic", earlier),
        {tally.name: _listed(connection, values, tally.name) for tally in rollups.kept.values},
    )


def _views(connection: duckdb.DuckDBPyConnection, rollups: Rollups) -> None:
    for name, file in (("unit_rows", UNITS), ("arm_rows", ARMS), ("value_rows", VALUES)):
        _view(connection, name, (part.folder / file for part in rollups.parts))
    _view(connection, "repeat_rows", [rollups.repeats])
    connection.execute(_TRAFFIC)


def _view(connection: duckdb.DuckDBPyConnection, name: str, files: Iterable[Path]) -> None:
    relation = connection.read_parquet([str(file) for file in files], hive_partitioning=False)
    relation.create_view(name, replace=True)


def _sums(rollups: Rollups) -> str:
    return ", ".join(f"coalesce(sum({name}), 0)::BIGINT AS {name}" for name in _columns(rollups))


def _columns(rollups: Rollups) -> list[str]:
    return [FEEDBACK, REFUNDS, *rollups.kept.names]


def _panel(units: pa.Table, rows: Rows, before: Rows, listed: dict[str, Listed]) -> Panel:
    contexts = units["context"].combine_chunks().dictionary_encode("encode")
    return Panel(
        units=tuple(units["unit"].to_pylist()),
        first_day=_numbers(units["first_day"]),
        contexts=tuple(text or "{}" for text in contexts.dictionary.to_pylist()),
        context=_numbers(contexts.indices),
        rows=rows,
        before=before,
        listed=listed,
    )


def _rows(
    connection: duckdb.DuckDBPyConnection, rollups: Rollups, units: int, table: str, days: str
) -> Rows:
    query = _ROWS.format(table=table, days=days, sums=_sums(rollups))
    found = _table(connection, query)
    numbers = {name: _numbers(found[name]) for name in _columns(rollups)}
    unit = _numbers(found["number"])
    starts = np.searchsorted(unit, np.arange(units + 1))
    return Rows(unit, starts, _numbers(found["day"]), numbers)


def _listed(connection: duckdb.DuckDBPyConnection, query: str, measure: str) -> Listed:
    found = _table(connection, _IN_ORDER.format(query=query), {"measure": measure})
    return Listed(*(_numbers(found[name]) for name in ("number", "day", "value")))


def _table(
    connection: duckdb.DuckDBPyConnection, query: str, values: dict[str, Any] | None = None
) -> pa.Table:
    return connection.sql(query, params=values).to_arrow_table()


def _numbers(column: pa.ChunkedArray | pa.Array) -> Int64:
    found = column.to_numpy() if isinstance(column, pa.ChunkedArray) else np.asarray(column)
    return found.astype(np.int64, copy=False)


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    ((number,),) = connection.execute(query).fetchall()
    return int(number)


def _column(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[str, ...]:
    return tuple(str(value) for (value,) in connection.execute(query).fetchall())
