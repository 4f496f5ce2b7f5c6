"""Export: the bundle scores as the trained cascade does, also across HTTP."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import faiss
import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from serving.bundles.stage_module import load_stage
from tests.encoding import encode_request
from tests.serving.world import EXPERIMENTS, ServerProcess
from training.answers import NUM, availability, plain_arrays
from training.bundle import EMBEDDINGS, INDEX, ITEMS, Bundle, BundleError, open_bundle, read_items
from training.cascade import Cascade, recommend
from training.checkpoint import read_best
from training.config import TrainConfig
from training.data.dataset import PreparedDataset, Split
from training.data.requests import request_tensors
from training.evaluation import load_run
from training.export import export, spare_rows
from training.features import RequestTensors, item_keys
from training.folder import TrainError

ARMS = ("baseline", "dftopk")


@pytest.fixture(scope="module")
def bundles(
    shop: PreparedDataset, shop_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("served") / "bundles"
    return {name: export(run, shop, folder / name) for name, run in shop_runs.items()}


@pytest.fixture(scope="module")
def http(bundles: dict[str, Bundle]) -> Iterator[httpx.Client]:
    data_dir = bundles["baseline"].path.parent.parent
    (data_dir / "experiments.toml").write_text(EXPERIMENTS)
    server = ServerProcess(data_dir)
    server.start()
    with httpx.Client(base_url=server.url, timeout=10) as client:
        yield client
    assert server.stop() == 0, server.log_path.read_text()


def first_snapshot(request: RequestTensors) -> RequestTensors:
    """A bundle holds one snapshot, the newest, as its first."""
    return request._replace(snapshot_B=torch.zeros_like(request.snapshot_B))


def requests_of(shop: PreparedDataset, config: TrainConfig, size: int = 40) -> RequestTensors:
    requests = shop.requests(Split.TEST)[:size]
    return request_tensors(plain_arrays(shop), requests, config.history_length)


@pytest.mark.parametrize("arm", ARMS)
def test_served_scores_are_those_of_training(
    shop: PreparedDataset, shop_runs: dict[str, Path], bundles: dict[str, Bundle], arm: str
) -> None:
    run, cascade = load_run(shop_runs[arm], shop)
    request = requests_of(shop, run.config)
    rows_BN = torch.stack([torch.randperm(len(shop.items))[:50] for _ in request.user_BU])
    with torch.inference_mode():
        for stage in bundles[arm].manifest.stages:
            trained_BN = getattr(cascade, stage.name)(*request, rows_BN)
            assert trained_BN.std() > 0.01
            served = load_stage(bundles[arm], stage, torch.device("cpu"))
            for _ in range(3):  # TorchScript compiles in its first calls
                served_BN = served(*first_snapshot(request), rows_BN)
                torch.testing.assert_close(served_BN, trained_BN, rtol=1e-5, atol=1e-6)
                best_BK = trained_BN.topk(NUM, dim=1).indices
                assert served_BN.topk(NUM, dim=1).indices.equal(best_BK)


def test_item_tables_stand_beside_the_modules(
    shop: PreparedDataset, bundles: dict[str, Bundle]
) -> None:
    bundle = bundles["dftopk"]
    assert bundle.manifest.spare_rows == spare_rows(len(shop.items) - 1) == 1000
    for files in bundle.manifest.tables.values():
        for name in files.values():
            assert len(np.load(bundle.file(name), mmap_mode="r")) == len(shop.items) + 1000
    for stage in bundle.manifest.stages:
        module = torch.jit.load(bundle.file(stage.module))
        names = [name for name, tensor in module.state_dict().items() if len(tensor) == 0]
        assert sorted(names) == sorted(bundle.manifest.tables[stage.module])


@pytest.mark.parametrize("arm", ARMS)
def test_embeddings_and_index_are_the_retrieval_stage(
    shop: PreparedDataset, shop_runs: dict[str, Path], bundles: dict[str, Bundle], arm: str
) -> None:
    run, cascade = load_run(shop_runs[arm], shop)
    vectors_ID = np.load(bundles[arm].file(EMBEDDINGS))
    request = requests_of(shop, run.config)
    with torch.inference_mode():
        trained_ID = cascade.retrieval.encode_items().numpy()
        np.testing.assert_allclose(vectors_ID, trained_ID, rtol=1e-5, atol=1e-7)
        user_BD = cascade.retrieval.encode_user(*request)
        rows_BI = torch.arange(1, len(shop.items)).expand(len(user_BD), -1)
        logits_BI = cascade.retrieval(*request, rows_BI).numpy()
    products_BI = user_BD.numpy() @ vectors_ID.T
    np.testing.assert_allclose(products_BI, logits_BI, rtol=1e-4, atol=1e-5)
    index = faiss.read_index(str(bundles[arm].file(INDEX)))
    scores_BK, positions_BK = index.search(user_BD.numpy(), NUM)
    exact_BK = np.argsort(-products_BI, axis=1, kind="stable")[:, :NUM]
    assert np.array_equal(positions_BK, exact_BK)
    expected_BK = np.take_along_axis(products_BI, exact_BK, axis=1)
    np.testing.assert_allclose(scores_BK, expected_BK, rtol=1e-5, atol=1e-6)


def test_items_are_in_the_order_of_their_rows(
    shop: PreparedDataset, bundles: dict[str, Bundle]
) -> None:
    items = read_items(bundles["dftopk"])
    assert items.index.item_ids == shop.items.item_ids
    assert np.array_equal(items.available, availability(shop))
    assert not items.available.all()
    cents = np.rint(shop.arrays.snapshot_price[-1][1:] * 100).astype(np.int64)
    assert np.array_equal(items.price_micros, cents * 10_000)
    assert (cents > 0).all()
    assert np.array_equal(items.popularity, shop.arrays.snapshot_popularity[-1][1:])
    table = pq.read_table(bundles["dftopk"].file(ITEMS))
    assert table["aisle"].to_pylist() == shop.item_table["aisle"].to_pylist()


def test_manifest(
    shop: PreparedDataset, shop_runs: dict[str, Path], bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    manifest = open_bundle(bundles["dftopk"].path).manifest
    assert [(stage.name, stage.keep) for stage in manifest.stages] == [
        ("retrieval", 30),
        ("rank", 200),
    ]
    assert manifest.history_candidates == 60
    assert manifest.data_fingerprint == shop.meta.fingerprint
    assert manifest.currency == "EUR"
    _, best = read_best(shop_runs["dftopk"])
    assert manifest.metrics["validation_recall_at_20"] == best.recall
    assert TrainConfig.model_validate(manifest.config).sha256 == manifest.config_sha256
    assert manifest.metrics["index_recall"] == 1.0
    assert len(manifest.version) == 12
    again = export(shop_runs["dftopk"], shop, tmp_path / "other-name").manifest
    assert again.version == manifest.version
    assert again.name == "other-name"
    assert bundles["baseline"].manifest.version != manifest.version


def test_another_process_gives_equal_weights_an_equal_version(
    shop: PreparedDataset, shop_runs: dict[str, Path], bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from training.data.dataset import PreparedDataset\n"
        "from training.export import export\n"
        "run, data, out = map(Path, sys.argv[1:])\n"
        "print(export(run, PreparedDataset(data), out).manifest.version)"
    )
    run, out = shop_runs["dftopk"], tmp_path / "again"
    command = [sys.executable, "-W", "ignore", "-c", program, str(run), str(shop.path), str(out)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == bundles["dftopk"].manifest.version
    archives = [path.joinpath("rank.pt").read_bytes() for path in (out, bundles["dftopk"].path)]
    assert archives[0] != archives[1]  # why the version does not look at them


def test_the_index_is_of_the_kind_that_the_run_asks_for(
    shop: PreparedDataset, shop_runs: dict[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(shop_runs["dftopk"], tmp_path / "run")
    record = json.loads((run / "run.json").read_bytes())
    record["config"]["index"] = {"kind": "hnsw", "recall": 0.9}
    (run / "run.json").write_text(json.dumps(record))
    bundle = export(run, shop, tmp_path / "bundle")
    assert isinstance(faiss.read_index(str(bundle.file(INDEX))), faiss.IndexHNSWFlat)
    assert 0.9 <= bundle.manifest.metrics["index_recall"] <= 1.0


def test_refusals_leave_what_is_there(
    shop: PreparedDataset, shop_runs: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(BundleError, match=r"mine exists and is no bundle; choose another --out"):
        export(shop_runs["dftopk"], shop, tmp_path / "mine")
    run = shutil.copytree(shop_runs["dftopk"], tmp_path / "run")
    (run / "best.pt").write_bytes(b"no weights")
    with pytest.raises(TrainError, match=r"best\.pt cannot be read .* train again with --overwri"):
        export(run, shop, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "run"]


Trip = tuple[dict[str, Any], dict[str, Any], list[tuple[str, int]]]
"""A trip of the replay, its user's features, and what that user bought before."""


def replayed(shop: PreparedDataset) -> Iterator[Trip]:
    """Every twelfth trip."""
    users = {u["user_id"]: u for u in pq.read_table(shop.replay / "users.parquet").to_pylist()}
    bought: dict[str, list[tuple[str, int]]] = {
        name: list(zip(user["history_item_ids"], user["history_ts_us"], strict=True))
        for name, user in users.items()
    }
    for place, trip in enumerate(pq.read_table(shop.replay / "trips.parquet").to_pylist()):
        user = users[trip["user_id"]]
        if place % 12 == 0:
            yield trip, json.loads(user["features_json"]), list(bought[trip["user_id"]])
        bought[trip["user_id"]] += [(item, trip["ts_us"]) for item in trip["item_ids"]]


def request_of(shop: PreparedDataset, trip: dict[str, Any]) -> int:
    """Index of the request that a trip is offline."""
    user = sorted({u["user_id"] for u in _users(shop)}).index(trip["user_id"])
    arrays = shop.arrays
    (found,) = np.flatnonzero(
        (arrays.request_user == user) & (arrays.request_ts_us == trip["ts_us"])
    )
    return int(found)


def _users(shop: PreparedDataset) -> list[dict[str, Any]]:
    users: list[dict[str, Any]] = pq.read_table(shop.replay / "users.parquet").to_pylist()
    return users


def moment(ts_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_us)).isoformat()


def test_features_are_the_same_online_and_offline(
    shop: PreparedDataset, bundles: dict[str, Bundle]
) -> None:
    manifest = bundles["dftopk"].manifest
    items = read_items(bundles["dftopk"]).index
    for trip, features, history in replayed(shop):
        online = encode_request(
            manifest.features,
            items,
            user=features,
            context=json.loads(trip["context_json"]),
            history_keys=item_keys(item for item, _ in history),
            history_ts_us=np.array([ts for _, ts in history]),
            ts_us=trip["ts_us"],
        )
        offline = request_tensors(
            plain_arrays(shop),
            np.array([request_of(shop, trip)]),
            manifest.features.history_length,
        )
        for name, here, there in zip(
            RequestTensors._fields, online, first_snapshot(offline), strict=True
        ):
            assert here.dtype == there.dtype, name
            assert torch.equal(here, there), name


def test_served_answers_are_the_offline_answers(
    shop: PreparedDataset, shop_runs: dict[str, Path], http: httpx.Client
) -> None:
    cascades = {arm: load_run(run, shop) for arm, run in shop_runs.items()}
    served = dict.fromkeys(ARMS, 0)
    for trip, features, history in replayed(shop):
        interactions = [{"item_id": item, "ts": moment(ts)} for item, ts in history]
        body = {"features": features, "interactions": interactions}
        assert http.put(f"/v1/users/{trip['user_id']}", json=body).is_success
        ask = {
            "user_id": trip["user_id"],
            "num": NUM,
            "context": json.loads(trip["context_json"]),
            "ts": moment(trip["ts_us"]),
        }
        answer = http.post("/v1/recommend", json=ask).json()
        (assigned,) = answer["experiments"]
        arm = assigned["variant"]
        run, cascade = cascades[arm]
        rows, scores = _offline(shop, run.config, cascade, request_of(shop, trip))
        assert answer["degraded"] == []
        assert [shop.items.row(item["item_id"]) for item in answer["items"]] == rows
        assert [item["score"] for item in answer["items"]] == pytest.approx(
            scores, rel=1e-5, abs=1e-6
        )
        served[arm] += 1
    assert min(served.values()) >= 5


def _offline(
    shop: PreparedDataset, config: TrainConfig, cascade: Cascade, request: int
) -> tuple[list[int], list[float]]:
    """Rows and scores of what the trained cascade recommends."""
    tensors = request_tensors(plain_arrays(shop), np.array([request]), config.history_length)
    with torch.inference_mode():
        vectors_ID = cascade.retrieval.encode_items()
        answer = recommend(cascade, vectors_ID, tensors, config, NUM, availability(shop))
        rows_BK = torch.from_numpy(answer.rows_BK)
        scores_BK = cascade.rank(*tensors, rows_BK)
    return rows_BK[0].tolist(), scores_BK[0].tolist()
