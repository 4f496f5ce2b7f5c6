"""Part: some archived files of one day, rolled up: numbers a unit and split, written once.

A split is a set of assignments as answers and their feedback carry it; `arms` names what is in it,
so that a unit's row serves every experiment and all traffic alike. Requests are told apart by a
64-bit hash of their id, and the items of an answer by their position, of which each has one.
"""

import json
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb

from abtest.analysis.readings.currency import SCALE, DayRates
from abtest.analysis.readings.durable import sync
from abtest.analysis.readings.source import Source
from abtest.analysis.readings.tally import Tallies, Tally

UNITS: Final = "units.parquet"
ARMS: Final = "arms.parquet"
VALUES: Final = "values.parquet"
ITEMS: Final = "items.parquet"
REQUESTS: Final = "requests.parquet"
_ABOUT: Final = "part.json"
DRAFT: Final = ".draft"

EPOCH: Final = date(1970, 1, 1)
_MAX_SUM: Final = 10**17
"""Numbers of an event and of a unit's day are kept within it: sums then stay within 64 bits."""

_ASSIGNMENTS = (
    'STRUCT("key" VARCHAR, revision BIGINT, variant VARCHAR, forced BOOLEAN, "cluster" VARCHAR)[]'
)
_EVENTS = """
CREATE OR REPLACE TEMP TABLE events AS
SELECT type, unit, event_ts_us, hash(request_id) AS request, position, item_id, bundle,
    len(item_ids) AS item_count, latency_us, len(degraded) > 0 AS degraded, context,
    refund_of IS NOT NULL AS refund, {micros} AS micros, {currency} AS currency,
    assignments::{assignments} AS assignments
FROM {once}
"""
_COPIED = """
CREATE OR REPLACE TEMP TABLE copied AS
SELECT event_id FROM source GROUP BY event_id HAVING count(*) > 1
"""
# Few events stand in two files, if any, and to tell all apart takes long.
_ONCE = """(
    FROM source ANTI JOIN copied USING (event_id)
    UNION ALL
    SELECT DISTINCT ON (event_id) source.* FROM source SEMI JOIN copied USING (event_id)
)"""
_SOURCE = """
CREATE OR REPLACE TEMP VIEW source AS
SELECT NULL::MAP(VARCHAR, VARCHAR) AS context WHERE false
UNION ALL BY NAME FROM archived
"""
_SPLITS = """
CREATE OR REPLACE TEMP TABLE splits AS
SELECT assignments, row_number() OVER ()::INTEGER AS split
FROM (SELECT DISTINCT assignments FROM events)
"""
_SPLIT_EVENTS = """
CREATE OR REPLACE TEMP TABLE split_events AS
SELECT events.* EXCLUDE (assignments), split FROM events JOIN splits USING (assignments)
"""
_ITEMS = """
CREATE OR REPLACE TEMP TABLE items AS
SELECT request, position::INTEGER AS position, unit, split, bit_or(mask) AS mask
FROM (SELECT request, position, unit, split, {mask} AS mask FROM split_events)
WHERE mask <> 0 GROUP BY ALL
"""
_UNITS = """
SELECT {part}::BIGINT AS part, {day}::INTEGER AS day, split, unit, first, currencies,
    feedback, refunds, {columns}
FROM (
    SELECT unit, split, {sums},
        count(*) FILTER (type <> 'ranking') AS feedback, count(*) FILTER (refund) AS refunds,
        string_agg(DISTINCT currency, ',' ORDER BY currency) AS currencies,
        min(struct_pack(us := event_ts_us, context := {context})) FILTER (type = 'ranking') AS first
    FROM split_events GROUP BY unit, split
) LEFT JOIN (
    SELECT unit, split, {items} FROM items GROUP BY unit, split
) USING (unit, split)
ORDER BY unit, split
"""
# Its fields in the order of their names, so that equal contexts have equal texts.
_CONTEXT = "map_from_entries(list_sort(map_entries(context)))::JSON::VARCHAR"
_ARMS = """
SELECT {part}::BIGINT AS part, split, given['key'] AS "key", given['revision'] AS revision,
    given['variant'] AS variant, given['forced'] AS forced, given['cluster'] AS "cluster"
FROM (SELECT split, unnest(assignments) AS given FROM splits)
ORDER BY "key", revision, split
"""


class Part(NamedTuple):
    """What a folder of rollups holds of a day."""

    folder: Path
    id: int
    day: date
    recipe: str
    """Says how it was made; one of another recipe is of no use."""
    events: int
    sources: frozenset[Source]


class Job(NamedTuple):
    """A part to be made."""

    day: date
    sources: frozenset[Source]
    files: list[str]
    recipe: str
    rates: DayRates | None
    """Of the day; None where revenue stays in its own currency."""
    id: int


def write(connection: duckdb.DuckDBPyConnection, job: Job, kept: Tallies, target: Path) -> Part:
    """Roll files up into the folder `target`, which appears whole or not at all."""
    draft = target.with_name(target.name + DRAFT)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    events = _load(connection, job)
    _query(connection, job, kept, draft)
    part = Part(target, job.id, job.day, job.recipe, events, job.sources)
    (draft / _ABOUT).write_text(_to_json(part))
    for file in draft.iterdir():
        sync(file)
    sync(draft)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    sync(target.parent)
    return part


def load(folder: Path) -> Part | None:
    """Read what a part says about itself; None of a draft, or of what another release wrote."""
    try:
        about: dict[str, Any] = json.loads((folder / _ABOUT).read_text())
        return Part(
            folder,
            about["id"],
            date.fromisoformat(about["day"]),
            about["recipe"],
            about["events"],
            frozenset(Source(*source) for source in about["sources"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _to_json(part: Part) -> str:
    fields = {
        "id": part.id,
        "day": str(part.day),
        "recipe": part.recipe,
        "events": part.events,
        "sources": sorted(part.sources),
    }
    return json.dumps(fields)


def _load(connection: duckdb.DuckDBPyConnection, job: Job) -> int:
    """Make the table of events, each once; returns how many there are."""
    archived = connection.read_parquet(job.files, union_by_name=True, hive_partitioning=False)
    archived.create_view("archived", replace=True)
    connection.execute(_SOURCE)
    connection.execute(_COPIED)
    micros, currency = _money(job.rates)
    fields = {"once": _ONCE, "micros": micros, "currency": currency}
    connection.execute(_EVENTS.format(**fields, assignments=_ASSIGNMENTS))
    ((events,),) = connection.execute("SELECT count(*) FROM events").fetchall()
    connection.execute(_SPLITS)
    connection.execute(_SPLIT_EVENTS)
    return int(events)


def _money(rates: DayRates | None) -> tuple[str, str]:
    """Revenue in the report's currency and the name of it; without a rate, none, and its own."""
    if rates is None:
        return _bounded("revenue_micros"), "currency"
    cases = " ".join(f"WHEN '{code}' THEN {rate}" for code, rate in rates.scaled.items())
    product = f"(revenue_micros::HUGEINT * CASE currency {cases} END)"
    whole, rest = f"({product} // {SCALE})", f"abs({product} % {SCALE}) * 2"
    up = f"({rest} > {SCALE} OR ({rest} = {SCALE} AND {whole} % 2 <> 0))"
    micros = f"({whole} + CASE WHEN {up} THEN sign({product}) ELSE 0 END)"
    known = ", ".join(f"'{code}'" for code in rates.scaled)
    return (
        f"CASE WHEN currency IN ({known}) THEN {_bounded(micros)} END",
        f"CASE WHEN currency IN ({known}) THEN '{rates.report}' ELSE currency END",
    )


def _bounded(number: str) -> str:
    # DuckDB's least and greatest pass over nulls, which must stay null.
    inside = f"greatest(-{_MAX_SUM}, least({_MAX_SUM}, {number}))::BIGINT"
    return f"CASE WHEN {number} IS NOT NULL THEN {inside} END"


def _query(connection: duckdb.DuckDBPyConnection, job: Job, kept: Tallies, draft: Path) -> None:
    bits = [f"CASE WHEN {tally.condition} THEN {1 << n} ELSE 0 END" for n, tally in _bits(kept)]
    connection.execute(_ITEMS.format(mask=f"({' | '.join(bits)})::BIGINT"))
    place = {"part": job.id, "day": (job.day - EPOCH).days}
    sums = ", ".join(f"{_sum(tally)} AS {tally.name}" for tally in kept.sums)
    items = ", ".join(f"sum((mask >> {n}) & 1)::BIGINT AS {t.name}" for n, t in _bits(kept))
    columns = ", ".join(f"coalesce({name}, 0)::BIGINT AS {name}" for name in kept.names)
    units = _UNITS.format(**place, sums=sums, items=items, columns=columns, context=_CONTEXT)
    values = " UNION ALL BY NAME ".join(_values(tally, place) for tally in kept.values)
    tables = {
        UNITS: units,
        ARMS: _ARMS.format(**place),
        VALUES: f"{values} ORDER BY measure, unit, split, value",
        ITEMS: "SELECT {part}::BIGINT AS part, {day}::INTEGER AS day, * FROM items "
        "ORDER BY request, position".format(**place),
        REQUESTS: "SELECT DISTINCT request FROM items ORDER BY request",
    }
    for name, query in tables.items():
        connection.sql(query).write_parquet(str(draft / name), compression="zstd")


def _bits(kept: Tallies) -> list[tuple[int, Tally]]:
    return list(enumerate(kept.items))


def _sum(tally: Tally) -> str:
    return _bounded(f"sum(CASE WHEN {tally.condition} THEN {tally.value} END)")


def _values(tally: Tally, place: Mapping[str, int]) -> str:
    return (
        f"SELECT {place['part']}::BIGINT AS part, {place['day']}::INTEGER AS day, split, unit, "
        f"'{tally.name}' AS measure, {tally.value}::BIGINT AS value "
        f"FROM split_events WHERE {tally.condition} AND {tally.value} IS NOT NULL"
    )
