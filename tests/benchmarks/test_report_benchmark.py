"""The benchmark of reports, on a small archive."""

from pathlib import Path

import pyarrow.parquet as pq

from abtest.analysis.metrics_file import load_metrics
from abtest.analysis.readings.readings import read
from abtest.analysis.readings.subject import Subject
from benchmarks.report.__main__ import measured, page
from benchmarks.report.dashboard import CHROMIUM, PAGES
from benchmarks.report.log import KEY, VARIANTS, Size


def test_it_reads_what_it_wrote(tmp_path: Path) -> None:
    found = measured(tmp_path, Size(answers=2_000, units=300, days=2), 1, ("here",))
    tables = [pq.ParquetFile(path).read(["event_id"]) for path in tmp_path.glob("mlp/events/*/*")]
    ids = [name for table in tables for name in table["event_id"].to_pylist()]
    assert len(set(ids)) == found.events < len(ids)
    readings = read(
        tmp_path / "mlp/events", tmp_path / "mlp/rollups", Subject(KEY, 1, VARIANTS), load_metrics()
    )
    assert sum(counts.requests for counts in readings.counts.values()) == 2_000
    assert len(readings.days) == 3
    assert [row.step for row in found.rows] == [
        "roll up everything",
        "roll up one file more",
        "read a report's numbers",
        "make the report",
        "find nothing new",
        f"`cascade report {KEY}`",
    ]
    assert all(row.cost.cpu_s > 0 and row.cost.peak_mb > 0 for row in found.rows)
    text = page(found)
    assert f"{found.events:,} events of 2 days" in text
    if CHROMIUM is None:
        assert "no Chromium" in text
    else:
        assert [each.name for each in found.pages] == [name for name, _, _ in PAGES]
        assert all(each.transferred_kb > 50 and min(each.ms) > 0 for each in found.pages)
