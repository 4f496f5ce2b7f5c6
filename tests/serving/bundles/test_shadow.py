"""A candidate is tried unseen: what it agrees on, what it costs, and that it never answers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from abtest.events import new_event_id
from serving.bundles.choice import ChoiceStore, Trial
from serving.bundles.fleet import Fleet
from serving.bundles.loading import Loader
from serving.bundles.recording import Recording
from serving.bundles.shadow import MAX_WAITING, Running, Shadows, in_share
from serving.bundles.tally_store import TallyStore
from serving.cascade.funnel import Funnel
from serving.cascade.query import Outcome, Query
from serving.settings import Settings
from serving.state.store import Store
from serving.telemetry.metrics import Metrics
from tests.serving.bundles.answers import (
    BASELINE,
    activate,
    answer,
    metric,
    refusal,
    served,
    wait_until,
)
from tests.serving.bundles.candidates import CPU, loaded, query
from tests.serving.unruled import no_rules
from tests.serving.world import ServerProcess
from training.bundle import BundleError

TRIAL = Trial(trial_id="1", source="tiny", share=1.0, since=datetime(2026, 1, 1, tzinfo=UTC))
SHADOW = "/v1/bundles/baseline/shadow"


@pytest.fixture(scope="module")
def funnel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Funnel]:
    with loaded(tmp_path_factory.mktemp("shadow")) as tiny:
        yield tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(Settings(data_dir=Path(tmp_path_factory.mktemp("trials")))) as opened:
        yield opened


Use = Callable[[Shadows], Awaitable[None]]


def with_shadows(
    store: Store, use: Use, folder: Path = Path("nowhere"), busy: bool = False
) -> None:
    async def as_bundled(_: Funnel) -> None:
        pass

    async def run() -> None:
        async with store.client() as client:
            metrics = Metrics()
            await use(
                Shadows(
                    Fleet(Loader(folder, CPU, no_rules()), as_bundled, metrics),
                    ChoiceStore(client),
                    TallyStore(client, new_event_id()),
                    Recording(),
                    busy=lambda: busy,
                    metrics=metrics,
                )
            )

    asyncio.run(run())


def test_it_scores_after_the_answer(store: Store, funnel: Funnel) -> None:
    async def use(shadows: Shadows) -> None:
        running = shadows.running["a"] = Running(TRIAL, funnel)
        [outcome] = funnel.run([query()])
        shadows.offer("a", query(), outcome)
        shadows.offer("b", query(), outcome)  # nothing is tried beside it
        assert running.tally.compared == 0
        await shadows.settle()
        assert running.tally.compared == 1
        assert running.tally.overlap == running.tally.first == 1.0
        assert len(running.tally.served_us) == len(running.tally.candidate_us) == 1

    with_shadows(store, use)


def test_a_busy_worker_drops(store: Store, funnel: Funnel) -> None:
    async def use(shadows: Shadows) -> None:
        running = shadows.running["a"] = Running(TRIAL, funnel)
        [outcome] = funnel.run([query()])
        shadows.offer("a", query(), outcome)
        await shadows.settle()
        assert (running.tally.compared, running.tally.dropped) == (0, 1)

    with_shadows(store, use, busy=True)


def test_only_so_many_wait_and_cheaper_answers_are_not_compared(
    store: Store, funnel: Funnel
) -> None:
    async def use(shadows: Shadows) -> None:
        running = shadows.running["a"] = Running(TRIAL, funnel)
        [outcome] = funnel.run([query()])
        shadows.offer("a", query(), outcome._replace(degraded=("ladder:fewer",)))
        assert running.tally.dropped == 1
        for number in range(MAX_WAITING + 2):
            shadows.offer("a", query(number), outcome)
        assert running.tally.dropped == 3
        await shadows.settle()
        assert running.tally.compared == MAX_WAITING

    with_shadows(store, use)


class Broken:
    """A candidate that raises."""

    bundle = "broken@1"

    def run(self, _: Sequence[Query]) -> list[Outcome]:
        raise MemoryError


def test_failures_are_counted_unless_both_fail(
    store: Store, funnel: Funnel, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(shadows: Shadows) -> None:
        running = shadows.running["a"] = Running(TRIAL, funnel)
        [outcome] = funnel.run([query()])
        failing = query(context={"mode": "fail"})
        shadows.offer("a", failing, outcome)
        await shadows.settle()
        assert (running.tally.compared, running.tally.failed) == (0, 1)
        shadows.offer("a", failing, outcome._replace(degraded=("rank_failed:rank",)))
        await shadows.settle()
        assert (running.tally.compared, running.tally.failed) == (1, 1)
        broken = shadows.running["a"] = Running(TRIAL, cast("Funnel", Broken()))
        shadows.offer("a", query(), outcome)
        await shadows.settle()
        assert broken.tally.failed == 1

    with_shadows(store, use)
    assert "broken@1 fails in the shadow of a" in caplog.text


def test_the_share_is_drawn_by_the_request_and_kept_when_it_grows() -> None:
    ids = [new_event_id() for _ in range(2000)]
    small, large = ({i for i in ids if in_share(i, share)} for share in (0.1, 0.5))
    assert small < large
    assert len(small) == pytest.approx(200, abs=60)
    assert len(large) == pytest.approx(1000, abs=120)
    assert not any(in_share(i, 0.0) for i in ids)
    assert all(in_share(i, 1.0) for i in ids)


def test_workers_add_up_and_follow(store: Store, funnel: Funnel, tmp_path: Path) -> None:
    with loaded(tmp_path):
        pass
    [outcome] = funnel.run([query()])

    async def first(shadows: Shadows) -> None:
        await shadows.begin("a", "tiny", 1.0)
        for number in range(3):
            shadows.offer("a", query(number), outcome)
        await shadows.settle()
        assert (await shadows.report("a"))[1].compared == 3

    async def second(shadows: Shadows) -> None:
        _, trials = await shadows._store.read()
        await shadows.follow(trials)
        shadows.offer("a", query(), outcome)
        await shadows.settle()
        running, found = await shadows.report("a")
        assert (running.tally.compared, found.compared) == (1, 4)
        await shadows.follow(trials)
        assert shadows.running["a"] is running
        gone = trials["a"].model_copy(update={"trial_id": "2", "source": "gone"})
        with pytest.raises(BundleError, match="there is no folder 'gone' in "):
            await shadows.follow({"a": gone})
        assert shadows.running == {}
        assert shadows.faults["a"].startswith("there is no folder 'gone' in ")
        await shadows.follow({})
        assert shadows.faults == {}

    with_shadows(store, first, tmp_path)
    with_shadows(store, second, tmp_path)


def begin(http: httpx.Client, source: str, share: float) -> dict[str, Any]:
    response = http.post(SHADOW, json={"source": source, "share": share})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def report(http: httpx.Client) -> dict[str, Any]:
    body: dict[str, Any] = http.get(SHADOW).json()
    return body


def has_compared(http: httpx.Client, requests: int) -> bool:
    return bool(report(http)["compared"] == requests)


def test_a_trial_over_http(http: httpx.Client, server: ServerProcess) -> None:
    begun = begin(http, "upside-down", 1.0)
    assert begun["bundle"] == "upside-down@1"
    assert begun["compared"] == 0
    assert begun["overlap"] is begun["candidate"]["p50_ms"] is None
    assert served(http)["shadow"] == "upside-down"
    for asked in range(1, 6):
        assert answer(http) == BASELINE
        wait_until(partial(has_compared, http, asked))
    found = report(http)
    # Ten items are recalled; of three, i11, i10, i9 stand against i1, i2, i4.
    assert (found["overlap"], found["overlap_first"], found["rank_correlation"]) == (0, 0, None)
    assert (found["failed"], found["dropped"]) == (0, 0)
    for side in ("served", "candidate"):
        assert 0 < found[side]["p50_ms"] <= found[side]["p95_ms"]
    assert answer(http, num=10)[0] == "baseline@1"
    wait_until(lambda: report(http)["compared"] == 6)
    found = report(http)
    assert found["overlap"] == pytest.approx(1 / 6)
    assert found["rank_correlation"] == -1
    compared = 'cascade_shadow_requests_total{name="baseline",outcome="compared"}'
    assert metric(server, compared) >= 6
    assert http.delete(SHADOW).status_code == 204
    assert refusal(http.get(SHADOW), 404) == (
        "no candidate is tried beside 'baseline'; "
        "begin with POST /v1/bundles/baseline/shadow and a source and a share"
    )
    assert served(http)["shadow"] is None
    wait_until(lambda: http.get("/v1/bundles").json()["held"] == 1)


def test_a_share_of_0_ends_a_trial_with_its_report(http: httpx.Client) -> None:
    begin(http, "upside-down", 1.0)
    answer(http)
    wait_until(lambda: report(http)["compared"] == 1)
    assert begin(http, "upside-down", 0.0)["compared"] == 1
    assert http.delete(SHADOW).status_code == 404


def test_activating_the_candidate_ends_its_trial(http: httpx.Client) -> None:
    begin(http, "upside-down", 1.0)
    activate(http, "baseline")
    assert served(http)["shadow"] == "upside-down"
    activate(http, "upside-down")
    assert served(http)["shadow"] is None
    wait_until(lambda: http.get("/v1/bundles").json()["held"] == 1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"source": "damaged", "share": 1.0}, "does not match its checksum"),
        ({"source": "scoreless", "share": 1.0}, "scoreless@1 answers with rank_failed:rank"),
        ({"source": "upside-down", "share": 1.5}, "body.share: Input should be less than or eq"),
        ({"source": "upside-down"}, "body.share: Field required"),
    ],
)
def test_refused_trials_leave_the_one_before(
    http: httpx.Client, body: dict[str, object], message: str
) -> None:
    begin(http, "upside-down", 0.5)
    assert message in refusal(http.post(SHADOW, json=body), 422)
    assert report(http)["share"] == 0.5


def test_trial_beside_a_name_that_is_not_served(http: httpx.Client) -> None:
    body = {"source": "upside-down", "share": 1.0}
    for response in (
        http.post("/v1/bundles/other/shadow", json=body),
        http.get("/v1/bundles/other/shadow"),
        http.delete("/v1/bundles/other/shadow"),
    ):
        assert "no bundle is served as 'other'" in refusal(response, 404)
