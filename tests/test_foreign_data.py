"""Tables with columns of their own naming, from files to a report, through the commands."""

import json
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from abtest.events import EVENT_ADAPTER, ConversionEvent, RankingEvent
from tests.serving.world import EXPERIMENTS, ServerProcess
from tests.shop import write_config, write_shop
from tests.test_cli import output

KEY = "dftopk-vs-baseline"


@pytest.mark.slow
def test_a_shop_of_its_own_comes_through_every_command(tmp_path: Path) -> None:
    var = tmp_path / "var"
    output("data", write_shop(tmp_path / "tables"), "--data-dir", var)
    data = ("--data", var / "data" / "village-shop" / "prepared")
    for arm in ("baseline", "dftopk"):
        run = var / "runs" / arm
        output("train", write_config(tmp_path, arm), *data, "--out", run)
        output("export", run, *data, "--out", var / "bundles" / arm)
    (var / "experiments.toml").write_text(EXPERIMENTS)
    server = ServerProcess(var)
    server.start()
    output("replay", *data, "--url", server.url, "--json", tmp_path / "replay.json")
    beside = output("report", KEY, "--data-dir", var, "--json")
    assert server.stop() == 0
    text = output("report", KEY, "--data-dir", var)
    alone = output("report", KEY, "--data-dir", var, "--json")
    assert untimed(alone) == untimed(beside)
    assert f"page: {var / 'reports' / KEY}.html" in text
    assert (var / "reports" / f"{KEY}.html").read_text().startswith("<!")

    report = json.loads(alone)
    summary = json.loads((tmp_path / "replay.json").read_text())
    trips = pq.read_table(data[1] / "replay" / "trips.parquet")
    assert summary["failed_trips"] == 0
    assert summary["trips"] == trips.num_rows == sum(arm["requests"] for arm in report["arms"])
    assert report["currency"] == "EUR"
    assert sum(arm["units"] for arm in report["arms"]) == 60

    requests, revenue = recount(var / "events")
    for arm in report["arms"]:
        assert arm["requests"] == requests[arm["name"]]
        assert arm["revenue_micros"] == revenue[arm["name"]] > 0
        account = summary["accounts"][f"{KEY}/{arm['name']}"]
        assert account["revenue_micros"] == arm["revenue_micros"]
        assert f"{arm['revenue_micros'] / 1e6:,.2f} EUR" in text


def recount(events: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Requests and revenue of every variant, from the raw events."""
    requests: dict[str, int] = defaultdict(int)
    revenue: dict[str, int] = defaultdict(int)
    seen = set()
    for file in events.glob("day=*/*.parquet"):
        for line in pq.ParquetFile(file).read(["event"])["event"].to_pylist():
            event = EVENT_ADAPTER.validate_json(line)
            if event.event_id in seen:
                continue
            seen.add(event.event_id)
            (assignment,) = event.experiments
            if isinstance(event, RankingEvent):
                requests[assignment.variant] += 1
            elif isinstance(event, ConversionEvent):
                revenue[assignment.variant] += event.revenue_micros
    return requests, revenue


def untimed(report: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(report)
    assert found.pop("as_of")
    return found
