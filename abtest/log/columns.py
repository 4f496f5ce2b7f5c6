"""Columns: archived events as one table, typed for SQL."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

import pyarrow as pa

from abtest.events import Assignment, ConversionEvent, Event, RankingEvent

_ASSIGNMENT = pa.struct(
    [
        ("layer", pa.string()),
        ("key", pa.string()),
        ("revision", pa.int64()),
        ("variant", pa.string()),
        ("propensity", pa.float64()),
        ("forced", pa.bool_()),
        ("cluster", pa.string()),
    ]
)
SCHEMA: Final = pa.schema(
    [
        ("type", pa.string()),
        ("event_id", pa.string()),
        ("event_ts_us", pa.int64()),
        ("ingest_ts_us", pa.int64()),
        ("request_id", pa.string()),
        ("unit", pa.string()),
        ("assignments", pa.list_(_ASSIGNMENT)),
        ("bundle", pa.string()),
        ("item_ids", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
        ("latency_us", pa.int64()),
        ("degraded", pa.list_(pa.string())),
        ("context", pa.map_(pa.string(), pa.string())),
        ("teams", pa.list_(pa.string())),
        ("item_id", pa.string()),
        ("position", pa.int64()),
        ("revenue_micros", pa.int64()),
        ("currency", pa.string()),
        ("refund_of", pa.string()),
        ("event", pa.string()),
    ]
)
"""Columns of an archived event; those of other types are null, `event` is its whole JSON.

Files written before a column was added lack it, `assignments.cluster` included: read files together
by name (`union_by_name` in DuckDB, `SCHEMA` in pyarrow), what is missing is null.
"""

_EVERY = ("type", "event_id", "event_ts_us", "ingest_ts_us", "request_id", "unit")
_RANKING = ("bundle", "item_ids", "scores", "degraded", "teams")
_FEEDBACK = ("item_id", "position")
_CONVERSION = ("revenue_micros", "currency", "refund_of")


class Entry(NamedTuple):
    """An event, and the JSON it was read from."""

    event: Event
    json: bytes


def to_table(entries: Sequence[Entry]) -> pa.Table:
    """The table of some events, in their order, with the columns of `SCHEMA`."""
    fields = [entry.event.__dict__ for entry in entries]
    ranked = _only(entries, lambda event: isinstance(event, RankingEvent))
    told = _only(entries, lambda event: not isinstance(event, RankingEvent))
    sold = _only(entries, lambda event: isinstance(event, ConversionEvent))
    columns = {name: _values(fields, itemgetter(name)) for name in _EVERY}
    for names, some in ((_RANKING, ranked), (_FEEDBACK, told), (_CONVERSION, sold)):
        columns |= {name: _values(some, itemgetter(name)) for name in names}
    columns["latency_us"] = _values(ranked, lambda row: row["latency_us"]["total"])
    columns["context"] = _values(ranked, lambda row: list(row["context"].items()))
    columns["event"] = [entry.json.decode() for entry in entries]
    arrays = {name: pa.array(values, SCHEMA.field(name).type) for name, values in columns.items()}
    arrays["assignments"] = _assignments([row["experiments"] for row in fields])
    return pa.table([arrays[name] for name in SCHEMA.names], schema=SCHEMA)


def _only(entries: Sequence[Entry], wanted: Callable[[Event], bool]) -> list[dict[str, Any] | None]:
    return [entry.event.__dict__ if wanted(entry.event) else None for entry in entries]


def _values(
    rows: Sequence[dict[str, Any] | None], value: Callable[[dict[str, Any]], Any]
) -> list[Any]:
    return [None if row is None else value(row) for row in rows]


def _assignments(given: Sequence[Sequence[Assignment]]) -> pa.Array:
    """A list of structs a row, put together from columns, which is quicker than from rows."""
    offsets = [0]
    flat: list[dict[str, Any]] = []
    for some in given:
        flat += [assignment.__dict__ for assignment in some]
        offsets.append(len(flat))
    columns = [pa.array([row[field.name] for row in flat], field.type) for field in _ASSIGNMENT]
    structs = pa.StructArray.from_arrays(columns, fields=list(_ASSIGNMENT))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs)


def conform(table: pa.Table) -> pa.Table:
    """A table of archived events with the columns of `SCHEMA`, also one of an earlier release."""
    missing = [field for field in SCHEMA if field.name not in table.column_names]
    for field in missing:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    at = table.column_names.index("assignments")
    if table.schema.field(at).type != SCHEMA.field("assignments").type:
        chunks = [_with_every_field(chunk) for chunk in table.column(at).chunks]
        table = table.set_column(at, SCHEMA.field("assignments"), pa.chunked_array(chunks))
    return table.select(SCHEMA.names).cast(SCHEMA)


def _with_every_field(assignments: pa.ListArray) -> pa.ListArray:
    flat = assignments.flatten()
    known = {field.name for field in flat.type}
    columns = [
        flat.field(field.name) if field.name in known else pa.nulls(len(flat), field.type)
        for field in _ASSIGNMENT
    ]
    structs = pa.StructArray.from_arrays(columns, fields=list(_ASSIGNMENT))
    lengths = assignments.value_lengths().to_numpy(zero_copy_only=False)
    offsets = pa.array([0, *lengths.cumsum().tolist()], pa.int32())
    return pa.ListArray.from_arrays(offsets, structs)
