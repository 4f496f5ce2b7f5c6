"""Event tables: the archived log, checked and brought to one shape in DuckDB."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from abtest.events import CLICK, CONVERSION, EVENT_ADAPTER, IMPRESSION, RANKING, RankingEvent
from training.data.logged import Depth
from training.data.source import DatasetConfig, DatasetError
from training.data.tables import Columns, literal

_BATCH = 2_000

_ANSWER = pa.schema(
    [
        ("answer", pa.int64()),
        ("request_id", pa.string()),
        ("user_id", pa.string()),
        ("ts_us", pa.int64()),
    ]
)
_ENTRY = pa.schema([("answer", pa.int64()), ("item_id", pa.string()), ("depth", pa.int8())])


def open_events(connection: duckdb.DuckDBPyConnection, config: DatasetConfig, folder: Path) -> None:
    """Read the log beside the shop's tables, which `open_tables` made.

    `answers` (answer, request_id, user_row, ts_us, context columns) has a row an answer, `entries`
    (answer, item_id, depth) the items its event names, `outcomes` (answer, item_id, clicked,
    micros) what users did with them. Sales of the log join `interactions`, unless the shop's table
    has the same user, item and time; users that the table does not know join `users`.

    Raises:
        DatasetError: there are no answers, or an event breaks a rule.
    """
    _open_archive(connection, folder)
    _read_answers(connection, config, folder)
    _check_feedback(connection, config, folder)
    _open_outcomes(connection)
    _mark_seen(connection)
    _join_sales(connection, len(config.interactions.context))


def _open_archive(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    files = str(folder / "day=*" / "*.parquet")
    if not any(folder.glob("day=*/*.parquet")):
        raise DatasetError(
            f"{folder} holds no archived events; let a server answer with this data directory"
        )
    columns = "event_id, type, event_ts_us, request_id, item_id, revenue_micros, currency, event"
    try:
        connection.execute(
            f"""
            CREATE TABLE log AS SELECT DISTINCT ON (event_id) {columns}
            FROM read_parquet({literal(files)}, union_by_name = true, hive_partitioning = false)
            """
        )
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{folder} cannot be read as archived events: {reason}") from error


def _read_answers(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, folder: Path
) -> None:
    names = config.interactions.context
    schema = _ANSWER
    for position in range(len(names)):
        schema = schema.append(pa.field(Columns.context(position), pa.string()))
    connection.register("no_answers", schema.empty_table())
    connection.execute("CREATE TABLE read_answers AS SELECT * FROM no_answers")
    connection.register("no_entries", _ENTRY.empty_table())
    connection.execute("CREATE TABLE read_entries AS SELECT * FROM no_entries")
    read = 0
    for events in _rankings(connection, folder):
        contexts = [[event.context.get(name) for event in events] for name in names]
        answers = [range(read, read + len(events)), [event.request_id for event in events],
                   [event.unit for event in events], [event.event_ts_us for event in events],
                   *contexts]  # fmt: skip
        connection.register("some_answers", pa.Table.from_arrays(
            [pa.array(column, field.type) for column, field in zip(answers, schema, strict=True)],
            schema=schema))  # fmt: skip
        connection.execute("INSERT INTO read_answers SELECT * FROM some_answers")
        connection.register("some_entries", _entries(events, read))
        connection.execute("INSERT INTO read_entries SELECT * FROM some_entries")
        read += len(events)
    if read == 0:
        raise DatasetError(f"{folder} holds feedback and no answers; nothing can be learnt of it")
    _check_items(connection, config, folder)
    _join_users(connection)


def _rankings(connection: duckdb.DuckDBPyConnection, folder: Path) -> Iterator[list[RankingEvent]]:
    """Answers in the order of their ids, checked."""
    found = connection.cursor().execute(
        f"SELECT event_id, event FROM log WHERE type = '{RANKING}' ORDER BY event_id"
    )
    while rows := found.fetchmany(_BATCH):
        events = []
        for event_id, text in rows:
            try:
                event = EVENT_ADAPTER.validate_json(text)
            except ValidationError as error:
                raise DatasetError(
                    f"{folder}: event {event_id} is no event of this release "
                    f"({error.errors()[0]['msg']}); prepare with the release that wrote it"
                ) from error
            assert isinstance(event, RankingEvent)
            events.append(event)
        yield events


def _entries(events: list[RankingEvent], first: int) -> pa.Table:
    """Items of answers, which are numbered from `first`."""
    depths = [_depths(event) for event in events]
    numbers = np.repeat(np.arange(first, first + len(events)), [len(found) for found in depths])
    columns = [
        pa.array(numbers, pa.int64()),
        pa.array([item_id for found in depths for item_id in found], pa.string()),
        pa.array([depth.value for found in depths for depth in found.values()], pa.int8()),
    ]
    return pa.Table.from_arrays(columns, schema=_ENTRY)


def _depths(event: RankingEvent) -> dict[str, Depth]:
    """How far each item of an answer's event came, as far as the answer itself tells."""
    depths: dict[str, Depth] = {}
    for number, stage in enumerate(event.stages):
        dropped = Depth.DROPPED_BY_RECALL if number == 0 else Depth.DROPPED_BY_RANK
        for item_id, survived in zip(stage.item_ids, stage.survived, strict=True):
            # What recall passed on reached ranking; what ranking passed on may be dropped by the
            # last order, which is no stage of its own.
            depths[item_id] = Depth.DROPPED_BY_RANK if survived else dropped
    return depths | dict.fromkeys(event.item_ids, Depth.RECOMMENDED)


def _check_items(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, folder: Path
) -> None:
    unknown = connection.execute(
        "SELECT item_id FROM read_entries ANTI JOIN items USING (item_id) ORDER BY 1 LIMIT 1"
    ).fetchone()
    if unknown is not None:
        raise DatasetError(
            f"{folder}: item {unknown[0]!r} was recommended and is not in {config.items.id} of "
            f"{config.items.file}; add it there"
        )


def _join_users(connection: duckdb.DuckDBPyConnection) -> None:
    """Users the shop's table does not know get rows without fields, as the server answers them."""
    connection.execute(
        """
        INSERT INTO users BY NAME
        SELECT user_id, row_number() OVER (ORDER BY user_id) - 1
               + (SELECT count(*) FROM users) AS user_row
        FROM (SELECT DISTINCT user_id FROM read_answers ANTI JOIN users USING (user_id))
        """
    )
    connection.execute(
        "CREATE TABLE answers AS SELECT * EXCLUDE (user_id) FROM read_answers "
        "JOIN users USING (user_id)"
    )


def _check_feedback(
    connection: duckdb.DuckDBPyConnection, config: DatasetConfig, folder: Path
) -> None:
    for condition, says, remedy in (
        (
            f"currency != {literal(config.currency)}",
            f"is in {{}}, the shop's tables in {config.currency}",
            "leave such sales out, or give the shop's tables of that currency",
        ),
        (
            f"type = '{CONVERSION}' AND (revenue_micros IS NULL OR currency IS NULL)",
            "is a conversion without revenue or currency",
            "it was not written by the server; remove it",
        ),
    ):
        row = connection.execute(
            f"SELECT event_id, currency FROM log WHERE {condition} ORDER BY event_id LIMIT 1"
        ).fetchone()
        if row is not None:
            raise DatasetError(f"{folder}: event {row[0]} {says.format(row[1])}; {remedy}")


def _open_outcomes(connection: duckdb.DuckDBPyConnection) -> None:
    """What users did with each item of an answer; a refund takes money off again."""
    connection.execute(
        f"""
        CREATE TABLE outcomes AS
        SELECT answer, item_id, bool_or(type = '{CLICK}') AS clicked,
               sum(coalesce(revenue_micros, 0))::BIGINT AS micros,
               min(event_ts_us) FILTER (type = '{CONVERSION}' AND revenue_micros >= 0) AS sold_us
        FROM log JOIN answers USING (request_id)
        WHERE type IN ('{IMPRESSION}', '{CLICK}', '{CONVERSION}') GROUP BY answer, item_id
        """
    )


def _mark_seen(connection: duckdb.DuckDBPyConnection) -> None:
    """What there is feedback on was seen; where a log has no impressions, all that was recommended.

    A client that reports what comes into view says by its silence what did not.
    """
    reported = f"EXISTS (SELECT * FROM log WHERE type = '{IMPRESSION}')"
    connection.execute(
        f"""
        CREATE TABLE entries AS
        SELECT answer, item_id,
               CASE WHEN depth < {Depth.RECOMMENDED.value} THEN depth
                    WHEN clicked IS NOT NULL OR NOT {reported} THEN {Depth.SEEN.value}
                    ELSE depth END::TINYINT AS depth
        FROM read_entries LEFT JOIN outcomes USING (answer, item_id)
        """
    )


def _join_sales(connection: duckdb.DuckDBPyConnection, contexts: int) -> None:
    """Purchases of the log are part of the users' histories."""
    columns = "".join(f", any_value({Columns.context(i)}) AS {Columns.context(i)}"
                      for i in range(contexts))  # fmt: skip
    connection.execute(
        f"""
        INSERT INTO interactions BY NAME
        SELECT * FROM (
            SELECT user_row, user_id, item_id, event_ts_us AS ts_us{columns},
                   sum(revenue_micros)::BIGINT AS revenue_micros,
                   max(revenue_micros) AS price_micros
            FROM log JOIN answers USING (request_id) JOIN users USING (user_row)
            WHERE type = '{CONVERSION}' AND revenue_micros >= 0
            GROUP BY user_row, user_id, item_id, event_ts_us)
        ANTI JOIN interactions USING (user_row, item_id, ts_us)
        """
    )
