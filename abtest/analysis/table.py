"""Table: one row a unit, from a file of whatever origin."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import duckdb
import numpy as np

from abtest.analysis.sample import Sample
from abtest.analysis.statistics.effect import AnalysisError

MetricType = Literal["mean", "proportion", "ratio"]
_READERS = {".parquet": "read_parquet", ".csv": "read_csv"}
_NUMBERS = ("INT", "DECIMAL", "DOUBLE", "FLOAT", "BOOLEAN")


class Question(NamedTuple):
    """Which columns of a table are compared, and how."""

    unit: str
    variant: str
    control: str
    """The variant that the others are compared with."""
    metric: str
    metric_type: MetricType = "mean"
    denominator: str | None = None
    covariate: str | None = None
    covariate_denominator: str | None = None
    cap_quantile: float | None = None
    planned_units: int | None = None


def read_table(path: Path, question: Question) -> dict[str, Sample]:
    """The samples of the table's variants, units sorted by name.

    Args:
        path: a `.parquet` or `.csv` file.
        question: its columns.

    Raises:
        AnalysisError: the file cannot be read, a column is missing, has nulls or other than finite
            numbers, a unit has several rows, or a proportion is not of 0 and 1.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise AnalysisError(f"{path} must be a .parquet or a .csv file; convert it")
    if not path.is_file():
        raise AnalysisError(f"{path} does not exist; name a .parquet or a .csv file")
    with duckdb.connect() as connection:
        try:
            table = getattr(connection, reader)(str(path))
            kinds = {name: str(kind) for name, kind in zip(table.columns, table.types, strict=True)}
            _check_columns(question, kinds)
            connection.register("given", table)
            _check_rows(connection, question)
            return _samples(connection, question)
        except duckdb.Error as error:
            raise AnalysisError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _numbers(question: Question) -> dict[str, str]:
    """Columns of numbers, by field of the sample."""
    named = {
        "numerator": question.metric,
        "denominator": question.denominator,
        "covariate": question.covariate,
        "covariate_denominator": question.covariate_denominator,
    }
    return {field: column for field, column in named.items() if column is not None}


def _check_columns(question: Question, kinds: Mapping[str, str]) -> None:
    numbers = _numbers(question).values()
    for column in (question.unit, question.variant, *numbers):
        if column not in kinds:
            raise AnalysisError(f"column {column!r} is not in the table; it has {list(kinds)}")
    for column in numbers:
        if not any(kind in kinds[column] for kind in _NUMBERS):
            raise AnalysisError(
                f"column {column!r} is {kinds[column]}, it must have numbers; convert it"
            )


def _check_rows(connection: duckdb.DuckDBPyConnection, question: Question) -> None:
    numbers = _numbers(question).values()
    for column in (question.unit, question.variant, *numbers):
        nulls = _count(connection, f"{_quoted(column)} IS NULL")
        if nulls:
            raise AnalysisError(
                f"column {column!r} has {nulls} nulls; write 0 where nothing happened, and leave "
                "out rows without unit or variant"
            )
    for column in numbers:
        odd = _count(connection, f"NOT isfinite({_quoted(column)}::DOUBLE)")
        if odd:
            raise AnalysisError(
                f"column {column!r} has {odd} values that are not finite; write 0 where nothing "
                "happened"
            )
    twice = connection.execute(
        f"SELECT {_quoted(question.unit)} FROM given GROUP BY ALL HAVING count(*) > 1 "
        "ORDER BY ALL LIMIT 1"
    ).fetchone()
    if twice is not None:
        raise AnalysisError(
            f"column {question.unit!r} has {twice[0]!r} more than once; give one row a unit: add "
            "its rows up, and leave out units of several variants"
        )
    others = _count(connection, f"{_quoted(question.metric)}::DOUBLE NOT IN (0, 1)")
    if question.metric_type == "proportion" and others:
        raise AnalysisError(
            f"column {question.metric!r} has {others} values other than 0 and 1; a proportion "
            "needs them, use mean for other numbers"
        )


def _samples(connection: duckdb.DuckDBPyConnection, question: Question) -> dict[str, Sample]:
    fields = _numbers(question)
    chosen = ", ".join(f"{_quoted(column)}::DOUBLE AS {field}" for field, column in fields.items())
    columns = connection.execute(
        f"SELECT {_quoted(question.variant)}::VARCHAR AS variant, {chosen} FROM given "
        f"ORDER BY {_quoted(question.unit)}"
    ).fetchnumpy()
    names = np.asarray(columns["variant"], object)
    return {
        str(name): Sample(
            **{field: np.asarray(columns[field], np.float64)[names == name] for field in fields}
        )
        for name in sorted(set(names))
    }


def _count(connection: duckdb.DuckDBPyConnection, condition: str) -> int:
    row = connection.execute(f"SELECT count(*) FILTER ({condition}) FROM given").fetchone()
    assert row is not None, "an aggregate without groups has one row"
    return int(row[0])


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
