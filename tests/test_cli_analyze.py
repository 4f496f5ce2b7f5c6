import json
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from abtest.analysis.table_analysis import TableAnalysis
from cli import main

COLUMNS = ["--unit", "user", "--variant", "arm", "--control", "old", "--metric", "spend"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "users.csv"
    with duckdb.connect() as connection:
        connection.sql(
            "SELECT i AS user, CASE WHEN i % 2 = 0 THEN 'old' ELSE '[new]' END AS arm, "
            "(i * 7919 % 101) / 10 + i % 2 AS spend, (i * 7919 % 101) AS before "
            "FROM range(1000) t(i)"
        ).write_csv(str(path))
    return path


def test_json_is_the_analysis(table: Path) -> None:
    shown = CliRunner().invoke(main, ["analyze", str(table), *COLUMNS, "--json"])
    assert shown.exit_code == 0, shown.output
    found = TableAnalysis.model_validate(json.loads(shown.stdout))
    assert found.effects[0].variant == "[new]"
    assert found.effects[0].p_value < 0.05
    assert found.sample_ratio.p_value == 1


def test_text_tells_the_sample_ratio_first(table: Path) -> None:
    more = ["--covariate", "before", "--expect-split", "0.5,0.5"]
    shown = CliRunner().invoke(main, ["analyze", str(table), *COLUMNS, *more])
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0] == "Sample ratio against the shares given: ok (p = 1)"
    for word in ("[new]", "Welch's t-test", "always valid", "p-value"):
        assert word in shown.stdout
    assert max(map(len, lines)) <= 100


def test_a_broken_split_tells_no_effect(table: Path) -> None:
    broken = ["analyze", str(table), *COLUMNS, "--expect-split", "0.8,0.2"]
    shown = CliRunner().invoke(main, broken)
    assert shown.exit_code == 0
    assert "FAILED" in shown.stdout
    assert "No effect can be read" in shown.stdout
    assert "Welch" not in shown.stdout


def test_wrong_input_is_one_line_and_exit_code_2(table: Path) -> None:
    shown = CliRunner().invoke(main, ["analyze", str(table), *COLUMNS[:-1], "cost"])
    assert shown.exit_code == 2
    assert shown.stderr.startswith(
        "Error: column 'cost' is not in the table; it has ['user', 'arm'"
    )
