import json
from pathlib import Path

from click.testing import CliRunner

from benchmarks.split.__main__ import NUMBERS, PAGE, main
from benchmarks.split.page import page

COMMITTED = Path(__file__).parents[2] / "docs" / "benchmarks"


def test_a_quick_run_writes_its_page(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--quick", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    numbers = json.loads((tmp_path / NUMBERS).read_text())
    assert numbers["agreement"]["pairs"] == 2_000
    assert numbers["agreement"]["differing"] == numbers["ramp"]["moved"] == 0
    assert len(numbers["cost"]) == 10
    assert (tmp_path / PAGE).read_text() == page(numbers)


def test_the_committed_page_is_that_of_the_committed_numbers() -> None:
    numbers = json.loads((COMMITTED / NUMBERS).read_text())
    assert numbers["agreement"]["pairs"] == 1_000_000
    assert numbers["agreement"]["differing"] == 0
    assert (COMMITTED / PAGE).read_text() == page(numbers)
