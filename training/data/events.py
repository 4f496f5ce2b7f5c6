"""Events: from the archived log of the server to a prepared dataset, so that it learns from itself.

A request is an answer that was seen. Its truth is what was bought of it, and the money, refunds
taken off; what was seen and not bought, and what the stages dropped, stands beside it, in
`logged.py`. Users, items and what was bought before the log or apart from it come from the shop's
own tables, through its `dataset.toml`. All that a request knows is what the server knew: purchases
strictly before its time.
"""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq

from training.data.dataset import ITEMS, DatasetMeta, PreparedDataset, write_prepared
from training.data.event_tables import open_events
from training.data.fields import context_fields, item_fields, user_fields
from training.data.indexing import dataset_arrays, index_items, item_table, one
from training.data.logged import Depth, Logged
from training.data.source import DatasetError, SplitSection, read_dataset_config
from training.data.tables import Columns, open_tables
from training.features import US_PER_DAY

Step = Callable[[str], None]


def prepare_events(
    folder: Path,
    shop: Path,
    out: Path,
    *,
    split: SplitSection,
    clicks: bool = False,
    step: Step = lambda _: None,
) -> PreparedDataset:
    """Prepare the archived events for training.

    Args:
        folder: of the archive, with a sub-folder a day.
        shop: `dataset.toml` of the shop's tables.
        out: folder to write, replaced whole if it holds a prepared dataset.
        split: days of the log that are kept from training.
        clicks: what was clicked counts as truth too, at no money if it was not bought.
        step: told in plain words what begins.

    Raises:
        DatasetError: an event or a table breaks a rule.
    """
    config = read_dataset_config(shop)
    with duckdb.connect() as connection:
        step("Checking the shop's tables")
        open_tables(connection, config, shop.parent)
        step("Reading the events")
        open_events(connection, config, folder)
        step("Splitting by time and indexing")
        test_start, validation_start = _split(connection, folder, split)
        shown = (
            "SELECT item_id FROM entries JOIN answers USING (answer) "
            f"WHERE ts_us < {validation_start} AND depth >= {Depth.RECOMMENDED.value}"
        )
        index_items(connection, config, validation_start, shown)
        _index_requests(connection, len(config.interactions.context), clicks=clicks)
        meta = DatasetMeta(
            name=f"{config.name}-events",
            currency=config.currency,
            validation_start_us=validation_start,
            test_start_us=test_start,
            user_fields=user_fields(connection, config, validation_start),
            context_fields=context_fields(connection, config, validation_start),
            item_fields=item_fields(connection, config, validation_start),
        )
        arrays = dataset_arrays(connection, meta)
        items = item_table(connection, config)
        logged = _logged(connection, len(arrays.request_ts_us))
        return write_prepared(
            out, meta, arrays, lambda draft: pq.write_table(items, draft / ITEMS), logged
        )


def _split(
    connection: duckdb.DuckDBPyConnection, folder: Path, split: SplitSection
) -> tuple[int, int]:
    """Starts of the test and the validation period."""
    first, last = one(connection, "SELECT min(ts_us), max(ts_us) FROM answers")
    test_start = last - split.test_days * US_PER_DAY
    validation_start = test_start - split.validation_days * US_PER_DAY
    if validation_start <= first:
        raise DatasetError(
            f"{folder}: {(last - first) / US_PER_DAY:.1f} days of answers leave none for training "
            f"after {split.test_days} test and {split.validation_days} validation days; lower "
            "them, or let the server answer for longer"
        )
    return test_start, validation_start


def _index_requests(connection: duckdb.DuckDBPyConnection, contexts: int, *, clicks: bool) -> None:
    """Number the answers of which something was seen, and say what they sold."""
    columns = "".join(f", {Columns.context(i)}" for i in range(contexts))
    connection.execute(
        f"""
        CREATE TABLE requests AS
        SELECT row_number() OVER (ORDER BY user_row, ts_us, answer) - 1 AS request,
               answer, user_row, ts_us{columns}
        FROM answers WHERE answer IN (
            SELECT answer FROM entries WHERE depth = {Depth.SEEN.value})
        """
    )
    true = "clicked OR micros > 0" if clicks else "micros > 0"
    connection.execute(
        f"""
        CREATE TABLE truth AS
        SELECT request, row, greatest(micros, 0) AS micros
        FROM outcomes JOIN requests USING (answer) JOIN item_rows USING (item_id) WHERE {true}
        """
    )


def _logged(connection: duckdb.DuckDBPyConnection, requests: int) -> Logged:
    """What became of every request, as far as its items have rows."""
    found = connection.execute(
        """
        SELECT request, row, max(depth) AS depth
        FROM entries JOIN requests USING (answer) JOIN item_rows USING (item_id)
        GROUP BY request, row ORDER BY request, row
        """
    ).fetchnumpy()
    return Logged(
        starts=np.searchsorted(found["request"], np.arange(requests + 1)).astype(np.int64),
        rows=found["row"].astype(np.int32),
        depths=found["depth"].astype(np.int8),
    )
