"""The studies with fewer runs: the bands hold, and can fail."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.statistics.__main__ import main
from benchmarks.statistics.many import days, segments, variants
from benchmarks.statistics.rate import Rate
from benchmarks.statistics.studies import (
    clustering,
    covering,
    guarding,
    misplanned,
    planned,
    quantiles,
    reading,
    watched_quantiles,
)
from benchmarks.statistics.study import Study


@pytest.mark.parametrize(
    ("study", "runs"),
    [
        (reading, 1000),
        (misplanned, 200),
        (covering, 60),
        (clustering, 80),
        (quantiles, 80),
        (watched_quantiles, 20),
        (guarding, 10),
        (planned, 60),
        (variants, 100),
        (segments, 40),
        (days, 40),
    ],
)
def test_rates_are_in_their_bands(study: Study, runs: int) -> None:
    rates = study(runs)
    assert all(rate.holds for rate in rates), rates
    assert all(rate.runs == runs for rate in rates)


def test_a_rate_out_of_its_band_does_not_hold() -> None:
    assert Rate("s", "w", 100, 2000, 0.04, 0.06).holds
    assert not Rate("s", "w", 160, 2000, 0.04, 0.06).holds
    assert not Rate("s", "w", 40, 2000, 0.04, 0.06).holds
    assert Rate("s", "w", 0, 10).interval[0] == 0


def test_the_program_writes_page_picture_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.statistics.__main__.STUDIES", (reading,))
    shown = CliRunner().invoke(main, ["--runs", "400", "--out", str(tmp_path), "--processes", "1"])
    assert shown.exit_code == 0, shown.output
    assert "| revenue, A/A, 100 looks | fixed horizon, read once" in shown.stdout
    rates = json.loads((tmp_path / "statistics.json").read_text())["rates"]
    assert [rate["runs"] for rate in rates] == [400] * 3
    assert (tmp_path / "statistics.png").stat().st_size > 10_000
    assert "![Rates and their bands](statistics.png)" in (tmp_path / "statistics.md").read_text()
