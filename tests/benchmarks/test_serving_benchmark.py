"""The serving benchmark: all contenders answer alike, and whatever fails is told."""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from benchmarks.operators.timing import Effort
from benchmarks.serving import compare, index, picture, ranker, table, workload
from benchmarks.serving.__main__ import main
from benchmarks.serving.answers import fault, wrong_answers
from benchmarks.serving.contenders import OURS, Contender, contenders, shared_environment
from benchmarks.serving.models import RANKERS, DinRanker, MlpRanker
from benchmarks.serving.plan import QUICK, IndexSizes
from benchmarks.serving.processes import Processes, ServerError, cpu_seconds, memory
from benchmarks.serving.recommender import Recommender
from benchmarks.serving.results import Absent, Floor, Held, Point, Served, median, points_of

ROOT = Path(__file__).parents[2]
PEERS = os.environ.get("CASCADE_BENCHMARK_VENV")
"""Folder of the environments of others, to test that they answer alike; made by the benchmark."""

TINY = QUICK._replace(
    catalogue=QUICK.catalogue._replace(rankers=("mlp",), items=1_500, users=8, cells=8, probes=8),
    load=QUICK.load._replace(
        concurrency=(1, 3), settle_s=0.1, warm_s=0.05, measured_s=0.3, floor_s=0.1, workers=1
    ),
)


def chosen(*names: str) -> list[Contender]:
    found = [contender for contender in contenders() if contender.name in names]
    assert len(found) == len(names)
    return found


def measured(folder: Path, taking_part: list[Contender], venv: Path | None = None) -> Served:
    place = compare.Place(ROOT, folder / "data", venv or folder / "venv")
    return compare.measure(TINY, taking_part, place, lambda _: None)


@pytest.mark.slow
def test_servers_answer_alike_and_who_fails_is_told(tmp_path: Path) -> None:
    dying = Contender("dying", "", lambda *_: [sys.executable, "-c", "print('no'); exit(3)"])
    unknown = Contender("unknown", "", lambda *_: [], requirements=("./nowhere",))
    found = measured(tmp_path, [*chosen(OURS, "plain FastAPI"), dying, unknown])
    reasons = {absent.contender: absent.reason for absent in found.absent}
    assert set(reasons) == {"dying", "unknown"}, reasons
    assert reasons["dying"] == "ServerError: ended with 3: no"
    assert reasons["unknown"].startswith("pip could not install ./nowhere: ERROR: ")
    for name in (OURS, "plain FastAPI"):
        points = [point for point in found.points if point.contender == name]
        assert [point.concurrency for point in points] == [1, 3]
        for point in points:
            assert point.errors == {}, name
            assert point.answered > 0
            assert 0 < point.p50_ms <= point.p99_ms
            assert point.cpu_ms > 0
    held = {row.contender: row for row in found.held}
    assert held[OURS].proportional_mb > held[OURS].private_mb > 0
    assert {(row.batch, row.requests_per_s > 0) for row in found.floors} == {(1, True), (8, True)}


@pytest.mark.slow
@pytest.mark.skipif(PEERS is None, reason="CASCADE_BENCHMARK_VENV names no environments of peers")
@pytest.mark.parametrize("name", [c.name for c in contenders() if c.requirements])
def test_peers_answer_alike(tmp_path: Path, name: str) -> None:
    found = measured(tmp_path, chosen(name), Path(str(PEERS)))
    assert found.absent == []
    assert [point.errors for point in found.points] == [{}, {}]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, workload.Served]:
    catalogue = TINY.catalogue._replace(rankers=tuple(RANKERS))
    return workload.write(tmp_path_factory.mktemp("bench") / "data", catalogue)


@pytest.mark.parametrize("name", list(RANKERS))
def test_a_batch_is_answered_as_its_requests_are(
    served: dict[str, workload.Served], name: str
) -> None:
    recommender = Recommender(served[name].bundle, served[name].users)
    users = ["u0", "u5", "u2"]
    together = recommender.recommend(users)
    for user, answer in zip(users, together, strict=True):
        scores = recommender.candidates(user)
        assert len(scores) == TINY.catalogue.recalled
        body = json.dumps(answer).encode()
        assert fault(body, scores, TINY.catalogue.answered) is None
        (alone,) = recommender.recommend([user])
        assert [i["item_id"] for i in alone["items"]] == [i["item_id"] for i in answer["items"]]


def test_histories_are_distinct_items_of_few_clusters() -> None:
    rng = np.random.default_rng(1)
    vectors_ID, cluster_I = workload.clustered(3_000, 8, rng)
    rows_UL = workload.histories(cluster_I, 5, 20, rng)
    np.testing.assert_allclose(np.linalg.norm(vectors_ID, axis=1), 1.0, rtol=1e-5)
    for rows_L in rows_UL:
        assert len(set(rows_L)) == 20
        assert len(set(cluster_I[rows_L - 1])) <= workload.TASTES
        assert rows_L.min() >= 1


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(workload.WorkloadError, match=r"holds something .* choose another --data"):
        workload.write(tmp_path, TINY.catalogue)
    assert (tmp_path / "thesis.tex").exists()


def request_of(B: int, L: int, N: int, rows: int) -> tuple[Tensor, ...]:
    nothing_B0 = torch.zeros(B, 0, dtype=torch.int64)
    history_BL = torch.randint(1, rows, (B, L))
    length_B = torch.randint(1, L + 1, (B,))
    history_BL[torch.arange(L) >= length_B.unsqueeze(1)] = 0
    snapshot_B = torch.zeros(B, dtype=torch.int64)
    candidates_BN = torch.randint(1, rows, (B, N))
    ages_BL = torch.zeros(B, L)
    return nothing_B0, nothing_B0, history_BL, ages_BL, length_B, snapshot_B, candidates_BN


def filled(module: MlpRanker | DinRanker, rows: int, width: int) -> MlpRanker | DinRanker:
    module.items_RD = torch.randn(rows, width)
    module.items_RD[0] = 0
    return module.eval()


def test_din_is_the_attention_of_the_paper() -> None:
    torch.manual_seed(0)
    D, L, N = 4, 6, 5
    module = filled(DinRanker(D), 30, D)
    assert isinstance(module, DinRanker)
    request = request_of(3, L, N, 30)
    _, _, history_BL, _, length_B, _, candidates_BN = request
    logits_BN = module(*request)
    for b in range(3):
        key_LD = module.items_RD[history_BL[b]][: int(length_B[b])]
        for n in range(N):
            q_D = module.items_RD[candidates_BN[b, n]]
            pair_LX = torch.cat([q_D.expand_as(key_LD), key_LD, q_D * key_LD], dim=1)
            first_HX = torch.cat([module.query_HD, module.key_HD, module.product_HD], dim=1)
            hidden_LH = (pair_LX @ first_HX.t() + module.bias_H).relu()
            attended_D = (module.out(hidden_LH) * key_LD).sum(0) / L**0.5
            known = torch.cat([q_D, attended_D, q_D * attended_D])
            logit = module.deep(module.of_pair(known) + module.of_user(key_LD.mean(0)))
            torch.testing.assert_close(logits_BN[b, n], logit[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(RANKERS))
def test_an_item_that_is_put_is_unknown(name: str) -> None:
    torch.manual_seed(0)
    module = torch.jit.script(filled(RANKERS[name](4), 10, 4))
    nothing = torch.zeros(2, 0, dtype=torch.int64)
    module.put_items(torch.tensor([3, 9]), nothing, torch.ones(2), torch.ones(2))
    assert module.items_RD[[3, 9]].abs().sum() == 0
    assert module.items_RD[4].abs().sum() > 0


def test_all_forms_of_the_ranker_score_alike() -> None:
    torch.manual_seed(0)
    trained = ranker.drawn_ranker(items=300, history=40)
    for history in (0, 7, 40):
        request = ranker.drawn_request(300, 40)
        request = request._replace(history_len_B=torch.tensor([history]))
        rows_BN = torch.randint(1, 301, (1, 50))
        expected_BN = trained(*request, rows_BN)
        for name, module in ranker.forms(trained).items():
            scores_BN = module(*request, rows_BN)
            same = torch.allclose(scores_BN, expected_BN, rtol=1e-4, atol=1e-5)
            # Nothing to match: then the textbook without it has nothing to miss.
            assert same == (history == 0 or "without" not in name), name


def test_forms_of_the_ranker_are_timed_in_turn() -> None:
    sizes = QUICK.ranker._replace(items=200, candidates=(20,), histories=(10,), rounds=3)
    found = ranker.measure(sizes, lambda _: None)
    assert [row.form for row in found][:1] == [ranker.TEXTBOOK]
    assert found[0].speedup == 1.0
    assert all(row.call_ms > 0 for row in found)
    assert Effort(0.0, 3, 0.0) == ranker.EFFORT._replace(rounds=3)


def test_indexes_are_held_to_the_exact_answer() -> None:
    sizes = IndexSizes(items=2_000, width=8, recalled=50, queries=6, probes=(2, 51), rounds=2)
    found = index.measure(sizes, shared_environment(ROOT), ROOT, lambda _: None)
    recalls = {row.name: row.recall for row in found.searched}
    assert recalls["flat"] == 1.0
    # There are 51 cells, 39 items in each: all of them are looked into.
    assert recalls["IVF-Flat, nprobe 51"] == 1.0
    assert recalls["IVF-Flat, nprobe 2"] < recalls["IVF-SQ8, nprobe 51"] <= 1.0
    (exported,) = [recall for name, recall in recalls.items() if name.endswith("as exported")]
    assert recalls["IVF-SQ8, nprobe 2"] < exported <= recalls["IVF-SQ8, nprobe 51"]
    assert all(row.query_ms > 0 for row in found.searched)
    assert [(row.how, row.processes) for row in found.memory] == [
        ("read", 1),
        ("read", 2),
        ("mapped", 1),
        ("mapped", 2),
    ]


SCORES = {"a": 3.0, "b": 2.0, "c": 2.0, "d": 1.0}


def body_of(*names: str) -> bytes:
    items = [{"item_id": name, "position": n, "score": 0.0} for n, name in enumerate(names)]
    return json.dumps({"items": items}).encode()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (body_of("a", "b"), None),
        (body_of("a", "c"), None),  # as good as b
        (body_of("a", "d"), "not the best items"),
        (body_of("a", "x"), "not the best items"),
        (body_of("a"), "not 2 items"),
        (body_of("a", "a"), "not 2 items"),
        (body_of("a", "b").replace(b'"position": 1', b'"position": 2'), "not 2 items"),
        (b"<html>", "not the agreed JSON"),
        (b'{"items": [7]}', "not the agreed JSON"),
        (b"[]", "not the agreed JSON"),
    ],
)
def test_answers_are_judged(body: bytes, reason: str | None) -> None:
    assert fault(body, SCORES, 2) == reason


def test_wrong_answers_are_counted_by_reason() -> None:
    samples = [(0, body_of("a", "b")), (1, body_of("a", "d")), (1, b""), (0, body_of("d", "b"))]
    asked: list[str] = []

    def candidates(user: str) -> dict[str, float]:
        asked.append(user)
        return SCORES

    found = wrong_answers(samples, candidates, 2)
    assert found == {"not the best items": 2, "not the agreed JSON": 1}
    assert asked == ["u0", "u1"]


ORPHAN = """
import ctypes, os, subprocess, sys, time
hidden = 'import time; time.sleep(60)'
# One that leaves its parent, and one without the mark in its environment.
subprocess.Popen(['setsid', '-f', sys.executable, '-c', hidden])
subprocess.Popen([sys.executable, '-c', hidden], env={})
sum(range(10**7))
print('up', flush=True)
time.sleep(60)
"""


def test_everything_that_a_server_starts_is_found_and_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", ORPHAN]
    with Processes(command, dict(os.environ), tmp_path, log) as processes:
        while "up" not in log.read_text() or len(processes.pids()) < 3:
            processes.check()
        pids = processes.pids()
        assert os.getpid() not in pids
        assert cpu_seconds(pids) >= cpu_seconds(pids[:1]) > 0
        held = memory(pids)
        assert held.proportional >= held.private > 1_000_000
    assert processes.pids() == []
    assert memory(pids) == (0, 0)


def test_a_server_that_ended_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('one'); sys.exit('two')"]
    with (
        Processes(command, dict(os.environ), tmp_path, tmp_path / "log") as processes,
        pytest.raises(ServerError, match=r"^ended with 1: one / two$"),
    ):
        compare.wait_until_answered(processes, ("127.0.0.1", 9), b"{}")


def point(contender: str, round_: int, concurrency: int, rate: float, errors: int = 0) -> Point:
    return Point(
        contender=contender,
        ranker="din",
        round=round_,
        concurrency=concurrency,
        requests_per_s=rate,
        p50_ms=1.5,
        p99_ms=1_234.5,
        cpu_ms=0.5,
        generator_cpu_share=0.25,
        answered=10,
        errors={"HTTP 503": errors} if errors else {},
    )


RESULTS = Served(
    points=[
        *(point(OURS, n, 1, rate) for n, rate in enumerate([10.0, 30.0, 2_000.0])),
        *(point(OURS, n, 8, 3_000.0, errors=2) for n in range(3)),
        point("plain", 0, 1, 5.0),
    ],
    held=[Held(OURS, "din", 0, 300.0, 200.0, 4)],
    floors=[Floor("din", 0, 1, 608.0, 2.5, 2.0)],
    absent=[
        Absent("plain", "din", 1, "ServerError: no answer"),
        Absent("gone", "", 0, "pip could not install gone"),
    ],
)
ROWS = [Contender(name, f"as {name} is", lambda *_: []) for name in (OURS, "plain", "gone")]


def test_the_page_shows_medians_and_who_is_missing() -> None:
    text = table.servers_section(RESULTS, ROWS, "x.png", "A note.")
    assert "A note.\n\n![x.png](x.png)\n" in text
    rates = text.split("Requests a second:", 1)[1].split("\n\n")[1].splitlines()
    assert rates[2:] == [
        "| **cascade** | 30 | 3,000 |",
        "| plain | 5 | - |",
        "| gone | - | - |",
    ]
    assert "- in-process floor, batch 1: 608 requests/s, 2.50 ms a call, 2.00 CPU ms" in text
    assert "| **cascade** | 300 | 200 | 4 | 0.25 | HTTP 503: 6 |" in text
    assert "| plain | - | - | - | 0.25 | none |" in text
    assert "| gone | - | - | - | - | - |" in text
    assert "- plain (din, round 2): ServerError: no answer\n" in text
    assert "- gone (not installed): pip could not install gone\n" in text


def test_medians_are_over_rounds() -> None:
    assert median(points_of(RESULTS, OURS, "din", 1), lambda p: p.requests_per_s) == 30.0
    assert math.isnan(median([], lambda p: p.requests_per_s))


def test_the_picture_is_drawn_with_what_there_is(tmp_path: Path) -> None:
    picture.draw(RESULTS, [row.name for row in ROWS], tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_server_is_refused() -> None:
    ran = CliRunner().invoke(main, ["--only", "nginx"])
    assert ran.exit_code == 2
    assert "'nginx' is no server of this benchmark; those are cascade, plain FastAPI" in ran.output


def test_parts_are_printed_and_written(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    arguments = ["--quick", "--part", "ranker", "--out", str(tmp_path)]
    ran = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert torch.get_num_threads() == threads
    page = (tmp_path / "serving.md").read_text()
    assert "## Ranker" in page
    assert "## Servers" not in page
    numbers = json.loads((tmp_path / "serving.json").read_text())
    assert set(numbers) == {"about", "ranker"}
    assert not (tmp_path / "serving.png").exists()
