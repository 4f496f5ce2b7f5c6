"""From three tables to a prepared dataset: validate, filter, split by time, index.

The one way by which purchases reach training, whoever's they are. Everything a request knows is
computed from interactions strictly before its time.
"""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from training.data.dataset import ITEMS, REPLAY, DatasetMeta, PreparedDataset, write_prepared
from training.data.fields import context_fields, item_fields, user_fields
from training.data.indexing import dataset_arrays, index_items, item_table, one
from training.data.replay import write_replay
from training.data.source import DatasetConfig, DatasetError, read_dataset_config
from training.data.tables import Columns, open_tables
from training.features import OOV, US_PER_DAY

Step = Callable[[str], None]


def prepare(config_path: Path, out: Path, step: Step = lambda _: None) -> PreparedDataset:
    """Prepare a dataset for training and replay.

    Args:
        config_path: `dataset.toml`; its files are relative to its folder.
        out: folder to write, replaced whole if it holds a prepared dataset.
        step: told in plain words what begins.

    Raises:
        DatasetError: a table, column or value breaks a rule.
    """
    config = read_dataset_config(config_path)
    with duckdb.connect() as connection:
        step("Checking the tables")
        open_tables(connection, config, config_path.parent)
        step("Splitting by time and indexing")
        test_start, validation_start = _split(connection, config)
        index_items(connection, config, validation_start)
        _index_requests(connection, config)
        meta = DatasetMeta(
            name=config.name,
            currency=config.currency,
            validation_start_us=validation_start,
            test_start_us=test_start,
            user_fields=user_fields(connection, config, validation_start),
            context_fields=context_fields(connection, config, validation_start),
            item_fields=item_fields(connection, config, validation_start),
        )
        arrays = dataset_arrays(connection, meta)
        items = item_table(connection, config)
        step("Writing the replay of the test period")

        def write_rest(folder: Path) -> None:
            pq.write_table(items, folder / ITEMS)
            write_replay(connection, config, test_start, folder / REPLAY)

        return write_prepared(out, meta, arrays, write_rest)


def _split(connection: duckdb.DuckDBPyConnection, config: DatasetConfig) -> tuple[int, int]:
    """Starts of the test and the validation period."""
    (count,) = one(connection, "SELECT count(*) FROM interactions")
    if count == 0:
        raise DatasetError(f"{config.interactions.file} has no rows; bring some interactions")
    first, last = one(connection, "SELECT min(ts_us), max(ts_us) FROM interactions")
    test_start = last - config.split.test_days * US_PER_DAY
    validation_start = test_start - config.split.validation_days * US_PER_DAY
    if validation_start <= first:
        raise DatasetError(
            f"{config.interactions.file}: {(last - first) / US_PER_DAY:.1f} days of interactions "
            f"leave none for training after {config.split.test_days} test and "
            f"{config.split.validation_days} validation days; lower them under [split]"
        )
    return test_start, validation_start


def _index_requests(connection: duckdb.DuckDBPyConnection, config: DatasetConfig) -> None:
    """Number the requests: what a user bought at one time, at least one eligible item."""
    contexts = range(len(config.interactions.context))
    least = "".join(f", min({Columns.context(i)}) AS {Columns.context(i)}" for i in contexts)
    connection.execute(
        f"""
        CREATE TABLE requests AS
        SELECT row_number() OVER (ORDER BY user_row, ts_us) - 1 AS request, * FROM (
            SELECT user_row, ts_us{least}
            FROM interactions LEFT JOIN item_rows USING (item_id)
            GROUP BY user_row, ts_us HAVING count(row) > 0)
        """
    )
    connection.execute(
        f"""
        CREATE TABLE truth AS
        SELECT request, row, revenue_micros AS micros
        FROM purchases JOIN requests USING (user_row, ts_us) WHERE row != {OOV}
        """
    )
