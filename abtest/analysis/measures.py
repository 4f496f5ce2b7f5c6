"""Measures: what the archived events say about each variant, before any statistics.

One answer of the experiment is the root: feedback counts where it names such an answer, and gets
its unit and variant from it. Events are counted once an `event_id`, whatever the files hold.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

import duckdb

from abtest.analysis.statistics import UnitTotals
from abtest.split.experiment import Experiment

_ANSWERS = """
CREATE TABLE answers AS
SELECT DISTINCT ON (event_id)
    request_id, unit, assignment.variant AS variant, items, latency_us, degraded,
    make_timestamp(event_ts_us)::DATE AS day
FROM (
    SELECT * REPLACE (len(degraded) > 0 AS degraded),
        len(item_ids) AS items, unnest(assignments) AS assignment
    FROM events WHERE type = 'ranking'
)
WHERE assignment.key = $key AND assignment.revision = $revision AND NOT assignment.forced
"""

_CROSSED = """
DELETE FROM answers WHERE unit IN (
    SELECT unit FROM answers GROUP BY unit HAVING count(DISTINCT variant) > 1
)
RETURNING unit
"""

_FEEDBACK = """
CREATE TABLE feedback AS
SELECT DISTINCT ON (event_id)
    type, item_id, revenue_micros, currency, refund_of,
    make_timestamp(event_ts_us)::DATE AS day,
    answers.request_id, answers.unit, answers.variant
FROM events JOIN answers ON events.request_id = answers.request_id
WHERE type <> 'ranking'
"""

_SERVED = """
SELECT variant, count(*), sum(items)::BIGINT, avg(degraded::INTEGER),
    quantile_cont(latency_us / 1000, [0.5, 0.95, 0.99])
FROM answers GROUP BY variant
"""

_TAKEN = """
SELECT variant,
    count(DISTINCT (request_id, item_id)) FILTER (type = 'click'),
    count(DISTINCT (request_id, item_id)) FILTER (type = 'conversion' AND refund_of IS NULL)
FROM feedback GROUP BY variant
"""

# Squares of micros overflow 64 bits; 128-bit integers keep every sum exact.
_TOTALS = """
SELECT variant, count(*), sum(total), sum(total * total)
FROM (
    SELECT units.variant, unit, coalesce(sum(revenue_micros), 0)::HUGEINT AS total
    FROM (SELECT DISTINCT variant, unit FROM answers) units LEFT JOIN feedback USING (unit)
    GROUP BY units.variant, unit
)
GROUP BY variant
"""

_DAYS = """
SELECT variant, day, sum(units)::BIGINT, sum(micros)::BIGINT
FROM (
    SELECT variant, min(day) AS day, 1 AS units, 0 AS micros FROM answers GROUP BY variant, unit
    UNION ALL
    SELECT variant, day, 0, revenue_micros FROM feedback WHERE type = 'conversion'
)
GROUP BY variant, day ORDER BY day
"""


class ReportError(ValueError):
    """A report that cannot be made; the message names what is wrong and the remedy."""


class Latency(NamedTuple):
    """Percentiles of the time an answer took inside the server."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


class DayTotals(NamedTuple):
    """One day: units seen for the first time, and revenue."""

    day: date
    new_units: int
    revenue_micros: int


class Measures(NamedTuple):
    """What one variant did. An item counts once an answer, however often it was taken."""

    totals: UnitTotals = UnitTotals(0, 0, 0)
    requests: int = 0
    items: int = 0
    clicked_items: int = 0
    bought_items: int = 0
    degraded_share: float = 0.0
    latency: Latency | None = None
    days: tuple[DayTotals, ...] = ()


class Measured(NamedTuple):
    """The measures of every variant of the experiment, in its order."""

    by_variant: Mapping[str, Measures]
    currency: str | None
    """None as long as nothing was bought."""
    crossed_units: int
    """Units seen in more than one variant; they are left out."""


def measure(events_folder: Path, experiment: Experiment) -> Measured:
    """Aggregate the archived events of the experiment's current revision.

    Raises:
        ReportError: no events, none of this revision, a variant the configuration does not have,
            or revenue in several currencies.
    """
    files = sorted(str(path) for path in events_folder.glob("day=*/*.parquet"))
    if not files:
        raise ReportError(
            f"{events_folder} holds no archived events; serve traffic and archive it first, "
            "or name the folder it was archived in"
        )
    with duckdb.connect() as connection:
        connection.read_parquet(files, hive_partitioning=False).create_view("events")
        chosen = {"key": experiment.key, "revision": experiment.revision}
        connection.execute(_ANSWERS, chosen)
        _check_variants(connection, events_folder, experiment)
        crossed = len({unit for (unit,) in connection.execute(_CROSSED).fetchall()})
        connection.execute(_FEEDBACK)
        currency = _currency(connection, experiment)
        return Measured(_by_variant(connection, experiment), currency, crossed)


def _check_variants(
    connection: duckdb.DuckDBPyConnection, folder: Path, experiment: Experiment
) -> None:
    rows = connection.execute("SELECT DISTINCT variant FROM answers ORDER BY variant").fetchall()
    if not rows:
        raise ReportError(
            f"{folder} holds no answer of {experiment.key} revision {experiment.revision}; serve "
            "traffic while it is running, or set the revision the traffic was split by"
        )
    known = [variant.name for variant in experiment.variants]
    unknown = sorted({str(name) for (name,) in rows} - set(known))
    if unknown:
        raise ReportError(
            f"answers of {experiment.key} revision {experiment.revision} have variants {unknown}, "
            f"its configuration has {known}; other variants need a new revision"
        )


def _currency(connection: duckdb.DuckDBPyConnection, experiment: Experiment) -> str | None:
    rows = connection.execute(
        "SELECT DISTINCT currency FROM feedback WHERE type = 'conversion' ORDER BY currency"
    ).fetchall()
    currencies = [str(currency) for (currency,) in rows]
    if len(currencies) > 1:
        raise ReportError(
            f"revenue of {experiment.key} is in {currencies}; an experiment has one currency, "
            "convert before you send conversions"
        )
    return currencies[0] if currencies else None


def _by_variant(
    connection: duckdb.DuckDBPyConnection, experiment: Experiment
) -> dict[str, Measures]:
    measures = {variant.name: Measures() for variant in experiment.variants}
    for name, requests, items, degraded, latency in connection.execute(_SERVED).fetchall():
        measures[name] = measures[name]._replace(
            requests=requests, items=items, degraded_share=degraded, latency=Latency(*latency)
        )
    for name, clicked, bought in connection.execute(_TAKEN).fetchall():
        measures[name] = measures[name]._replace(clicked_items=clicked, bought_items=bought)
    for name, *sums in connection.execute(_TOTALS).fetchall():
        measures[name] = measures[name]._replace(totals=UnitTotals(*sums))
    for name, *day in connection.execute(_DAYS).fetchall():
        days = (*measures[name].days, DayTotals(*day))
        measures[name] = measures[name]._replace(days=days)
    return measures
