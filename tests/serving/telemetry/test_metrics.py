"""Metrics: labels that stay few, revenue by variant, and workers that add up."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from abtest.events import Assignment, ClickEvent, ConversionEvent
from serving.telemetry.metrics import MAX_VARIANTS, Metrics

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD = ROOT / "docs" / "grafana" / "cascade.json"


def assignment(key: str, variant: str) -> Assignment:
    return Assignment(layer=key, key=key, revision=1, variant=variant, propensity=0.5)


def samples(text: bytes) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={sample.labels[name]}" for name in sorted(sample.labels))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_an_answer_is_counted_for_each_experiment_and_timed_once() -> None:
    metrics = Metrics()
    both = [assignment("a", "x"), assignment("b", "y")]
    metrics.observe_answer("m@1", both, {"rank": 1500, "total": 3000}, ["slow"])
    metrics.observe_answer("m@1", (), {"rank": 500}, ())
    found = samples(metrics.render())
    assert found["cascade_answers_total{bundle=m@1,variant=a/x}"] == 1
    assert found["cascade_answers_total{bundle=m@1,variant=b/y}"] == 1
    assert found["cascade_answers_total{bundle=m@1,variant=}"] == 1
    assert found["cascade_step_seconds_sum{bundle=m@1,step=rank,variants=a/x+b/y}"] == 0.0015
    assert found["cascade_step_seconds_count{bundle=m@1,step=rank,variants=}"] == 1
    assert found["cascade_step_seconds_bucket{bundle=m@1,le=0.002,step=rank,variants=a/x+b/y}"] == 1
    assert found["cascade_step_seconds_bucket{bundle=m@1,le=0.001,step=rank,variants=a/x+b/y}"] == 0
    assert found["cascade_degraded_answers_total{bundle=m@1,reason=slow}"] == 1


def test_joined_variants_are_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_VARIANTS + 10):
        metrics.observe_answer("m@1", [assignment("a", str(number))], {"total": 1}, ())
    counts = {name: n for name, n in samples(metrics.render()).items() if "seconds_count" in name}
    assert len(counts) == MAX_VARIANTS + 1
    assert counts["cascade_step_seconds_count{bundle=m@1,step=total,variants=other}"] == 10


def test_revenue_and_refunds_by_variant() -> None:
    metrics = Metrics()
    about: dict[str, Any] = {
        "event_id": "e", "event_ts_us": 1, "ingest_ts_us": 1, "request_id": "r", "unit": "u",
        "experiments": (assignment("a", "x"),), "item_id": "i", "position": 0,
    }  # fmt: skip
    metrics.observe_outcome(ClickEvent(**about))
    metrics.observe_outcome(ConversionEvent(**about, revenue_micros=7_000_000, currency="EUR"))
    metrics.observe_outcome(
        ConversionEvent(**about, revenue_micros=-2_000_000, currency="EUR", refund_of="e")
    )
    found = samples(metrics.render())
    assert found["cascade_variant_events_total{type=click,variant=a/x}"] == 1
    assert found["cascade_variant_events_total{type=conversion,variant=a/x}"] == 2
    assert found["cascade_revenue_micros_total{currency=EUR,variant=a/x}"] == 7_000_000
    assert found["cascade_refunded_micros_total{currency=EUR,variant=a/x}"] == 2_000_000


WORKER = """
import sys
from pathlib import Path
from serving.telemetry.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]))
metrics.observe_request("/v1/recommend", "POST", 200, 0.003)
metrics.observe_answer("m@1", (), {"rank": 1500}, ["slow"])
metrics.store_up.set(int(sys.argv[2]))
if sys.argv[3] == "render":
    sys.stdout.buffer.write(metrics.render())
"""


def test_workers_add_up_whichever_is_asked(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def work(*arguments: str) -> bytes:
        command = [sys.executable, "-c", WORKER, str(tmp_path), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout

    work("0", "end")  # what a worker that is gone has counted stays counted
    found = samples(work("1", "render"))
    asked = "method=POST,route=/v1/recommend"
    assert found[f"cascade_http_requests_total{{{asked},status=200}}"] == 2
    assert found[f"cascade_http_request_seconds_sum{{{asked}}}"] == 0.006
    assert found["cascade_step_seconds_count{bundle=m@1,step=rank,variants=}"] == 2
    assert found["cascade_degraded_answers_total{bundle=m@1,reason=slow}"] == 2
    assert found["cascade_store_up{}"] == 0


def test_sharing_that_began_too_late_is_refused(tmp_path: Path) -> None:
    message = r"cannot be shared in .*: set PROMETHEUS_MULTIPROC_DIR before the process starts"
    with pytest.raises(ValueError, match=message):
        Metrics(tmp_path)


def expressions(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def test_the_dashboard_asks_for_what_there_is() -> None:
    board = json.loads(DASHBOARD.read_text())
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    labels_of = {
        collector._name + suffix: {*collector._labelnames, "le"}
        for collector in vars(Metrics()).values()
        if isinstance(collector, MetricWrapperBase)
        for suffix in suffixes[str(collector._type)]
    }
    queries = [*expressions(board), *(v["query"]["query"] for v in board["templating"]["list"][1:])]
    for query in queries:
        names = re.findall(r"\bcascade_\w+", query)
        assert names, query
        assert set(names) <= set(labels_of), query
        grouped = re.findall(r"(?:by|on|ignoring) \(([\w, ]+)\)", query)
        labels = {label for group in grouped for label in group.split(", ")}
        labels |= set(re.findall(r"(\w+)=~?\"", query))
        assert labels <= set().union(*(labels_of[name] for name in names)), query
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
