"""The features made from a logged answer are those the server made: its scores come out again."""

import time
from pathlib import Path
from typing import Any

import duckdb
import httpx
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from abtest.events import EVENT_ADAPTER, RankingEvent
from cli import main
from loadtest.events import rfc3339
from loadtest.trips import read_households, read_trips
from tests.serving.world import ServerProcess
from tests.shop import USERS, write_config
from training.answers import plain_arrays
from training.cascade import Cascade
from training.data.dataset import PreparedDataset
from training.data.events import prepare_events
from training.data.requests import request_tensors
from training.data.source import SplitSection
from training.evaluation import load_run
from training.export import export
from training.features import OOV, RequestTensors

TRIPS = 60
ARM = "baseline"
EXPERIMENTS = f"""
version = 1
[defaults]
bundle = "{ARM}"
"""


class Logged:
    """A log that a real server wrote, and the run that answered."""

    def __init__(self, shop: PreparedDataset, run: Path, data_dir: Path) -> None:
        self.shop = shop
        self.run, self.cascade = load_run(run, shop)
        self.data_dir = data_dir

    def prepare(self) -> PreparedDataset:
        return prepare_events(
            self.data_dir / "events",
            self.shop.path.parent / "tables" / "dataset.toml",
            self.data_dir / "prepared",
            split=SplitSection(test_days=1, validation_days=1),
        )

    def rankings(self) -> dict[tuple[str, int], RankingEvent]:
        """Answers by user and time."""
        rows = duckdb.execute(
            "SELECT event FROM read_parquet(?) WHERE type = 'ranking'",
            [str(self.data_dir / "events" / "day=*" / "*.parquet")],
        ).fetchall()
        events = [EVENT_ADAPTER.validate_json(row[0]) for row in rows]
        return {(e.unit, e.event_ts_us): e for e in events if isinstance(e, RankingEvent)}


@pytest.fixture(scope="module")
def logged(
    shop: PreparedDataset, shop_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Logged:
    data_dir = tmp_path_factory.mktemp("logged")
    export(shop_runs[ARM], shop, data_dir / "bundles" / ARM)
    (data_dir / "experiments.toml").write_text(EXPERIMENTS)
    server = ServerProcess(data_dir, archive_interval_s="0.5")
    server.start()
    try:
        expected = _shop_at(server.url, shop)
        _wait_for(data_dir / "events", expected)
    finally:
        server.stop()
    return Logged(shop, shop_runs[ARM], data_dir)


def _shop_at(url: str, shop: PreparedDataset) -> int:
    """Trips of the test period; each buys its first two recommendations, too. Events logged."""
    trips = read_trips(shop.replay, TRIPS)
    number = 0
    with httpx.Client(base_url=url, timeout=30, headers={"X-Deadline-Ms": "60000"}) as client:
        for household in read_households(shop.replay, {trip.user_id for trip in trips}):
            past = zip(household.history_item_ids, household.history_ts_us, strict=True)
            sales = [{"item_id": i, "ts": rfc3339(ts)} for i, ts in past]
            body = {"features": household.features, "interactions": sales}
            client.put(f"/v1/users/{household.user_id}", json=body).raise_for_status()
        for trip in trips:
            asked = {"user_id": trip.user_id, "context": trip.context, "ts": rfc3339(trip.ts_us)}
            answer = client.post("/v1/recommend", json=asked).raise_for_status().json()
            taken = [item["item_id"] for item in answer["items"][:2]]
            paid = rfc3339(trip.ts_us + 60_000_000)
            events: list[dict[str, Any]] = [
                {"type": "conversion", "request_id": answer["request_id"], "item_id": item_id,
                 "event_ts": paid, "revenue_micros": 1_000_000, "currency": "EUR"}
                for item_id in taken
            ]  # fmt: skip
            reply = client.post("/v1/events", json={"events": events}).raise_for_status().json()
            assert reply["accepted"] == 2
            # What the trip bought besides is in the shop's tables.
            bought = [(i, rfc3339(trip.ts_us)) for i in trip.item_ids]
            bought += [(i, paid) for i in taken]
            client.post(
                f"/v1/users/{trip.user_id}/interactions",
                json={"interactions": [{"item_id": i, "ts": ts} for i, ts in bought]},
            ).raise_for_status()
            number += 1 + len(events)
    return number


def _wait_for(events: Path, expected: int) -> None:
    deadline = time.monotonic() + 60
    files = str(events / "day=*" / "*.parquet")
    found = 0
    while found < expected and time.monotonic() < deadline:
        time.sleep(0.2)
        if any(events.glob("day=*/*.parquet")):
            found = duckdb.execute("SELECT count(*) FROM read_parquet(?)", [files]).fetchall()[0][0]
    assert found == expected


def _as_bundle_knows(
    tensors: RequestTensors, dataset: PreparedDataset, shop: PreparedDataset
) -> RequestTensors:
    """The same requests in the rows and vocabularies of the bundle that answered them."""
    rows = [OOV] + [shop.items.row(item_id) for item_id in dataset.items.item_ids]

    def again(indices: torch.Tensor, ours: Any, theirs: Any) -> torch.Tensor:  # noqa: ANN401
        columns = [
            torch.tensor([OOV] + [new.encode(value) for value in old.vocabulary])[column]
            for old, new, column in zip(ours, theirs, indices.T, strict=False)
        ]
        return torch.stack([*columns, *indices.T[len(columns) :]], dim=1)

    newest = len(shop.arrays.snapshot_start_us) - 1
    return tensors._replace(
        user_BU=again(tensors.user_BU, dataset.meta.user_fields, shop.meta.user_fields),
        context_BC=again(tensors.context_BC, dataset.meta.context_fields, shop.meta.context_fields),
        history_rows_BL=torch.tensor(rows)[tensors.history_rows_BL],
        snapshot_B=torch.full_like(tensors.snapshot_B, newest),
    )


@torch.inference_mode()
def _scores(
    cascade: Cascade, tensors: RequestTensors, place: int, rows: list[int]
) -> dict[str, np.ndarray]:
    one = RequestTensors(*(part[place : place + 1] for part in tensors))
    rows_1N = torch.tensor([rows])
    return {
        "retrieval": cascade.retrieval(*one, rows_1N)[0].numpy(),
        "rank": cascade.rank(*one, rows_1N)[0].numpy(),
    }


def _largest_differences(logged: Logged, dataset: PreparedDataset) -> dict[str, float]:
    """Between the scores that the server logged and those of the dataset's features."""
    arrays, rankings = plain_arrays(dataset), logged.rankings()
    length = logged.run.config.history_length
    requests = np.arange(len(arrays.request_ts_us))
    tensors = _as_bundle_knows(request_tensors(arrays, requests, length), dataset, logged.shop)
    users = [f"c{number:02d}" for number in range(USERS)]
    worst, whole = {"retrieval": 0.0, "rank": 0.0}, 0
    for place in requests.tolist():
        unit = users[int(arrays.request_user[place])]
        event = rankings.pop((unit, int(arrays.request_ts_us[place])))
        # On a busy machine the store may be too slow, and the server answer without the features.
        whole += not event.degraded
        for stage in () if event.degraded else event.stages:
            rows = [logged.shop.items.row(item_id) for item_id in stage.item_ids]
            found = _scores(logged.cascade, tensors, place, rows)[stage.name]
            difference = float(np.abs(found - np.array(stage.scores)).max())
            worst[stage.name] = max(worst[stage.name], difference)
    assert not rankings
    assert whole > TRIPS / 2
    return worst


def test_the_servers_scores_come_out_of_the_datasets_features(logged: Logged) -> None:
    dataset = logged.prepare()
    assert len(dataset.arrays.request_ts_us) == TRIPS
    worst = _largest_differences(logged, dataset)
    assert worst["retrieval"] < 1e-4
    assert worst["rank"] < 1e-4


def test_a_history_that_ends_too_late_does_not_give_the_servers_scores(logged: Logged) -> None:
    dataset = logged.prepare()
    arrays = dataset.arrays
    most = len(arrays.purchase_rows)
    dataset.arrays = arrays._replace(history_end=np.minimum(arrays.history_end + 1, most))
    assert _largest_differences(logged, dataset)["rank"] > 1e-2


def test_the_commands_prepare_and_train(
    logged: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shop = logged.shop.path.parent / "tables" / "dataset.toml"
    data, config = tmp_path / "prepared", write_config(tmp_path, "dftopk")
    words = ["data", "events", "--data-dir", str(logged.data_dir), "--shop", str(shop),
             "--out", str(data), "--validation-days", "2", "--test-days", "1"]  # fmt: skip
    prepared = CliRunner().invoke(main, words, catch_exceptions=False)
    assert prepared.exit_code == 0, prepared.output
    assert f"{data}: " in prepared.stdout
    words = ["train", str(config), "--data", str(data), "--out", str(tmp_path / "run"),
             "--set", "epochs=1"]  # fmt: skip
    trained = CliRunner().invoke(main, words, catch_exceptions=False)
    assert trained.exit_code == 0, trained.output
    assert (tmp_path / "run" / "best.pt").is_file()
