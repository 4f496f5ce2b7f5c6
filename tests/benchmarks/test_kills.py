"""Kills: the reduced proof, and that its comparison sees what is lost, doubled or made up."""

from collections import Counter
from pathlib import Path

import pytest
import redis

from abtest.events import ConversionEvent, RankingEvent
from abtest.log.event_log import FIELD, STREAM
from benchmarks.kills.__main__ import page
from benchmarks.kills.run import compare, run
from benchmarks.kills.sender import Ledger
from serving.settings import Settings
from serving.state.store import Store
from tests.abtest.traffic import conversion, ranking
from tests.serving.world import write_world

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_at_random_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    write_world(tmp_path)
    result = run(tmp_path, ROOT, kills=4, seed=3, tick=lambda _: None)
    assert result.kills == {"master": 1, "worker": 1, "background": 1, "store": 1}
    assert result.restarts >= result.kills["master"]
    assert result.answers > 10
    assert result.events > 30
    assert result.sent_micros > 0
    assert result.clean, result


ANSWER = ranking("r", "u", [])
SALE = conversion(ANSWER, 0, 5_000_000)


def fill(client: redis.Redis, events: list[RankingEvent | ConversionEvent]) -> None:
    for event in events:
        client.xadd(STREAM, {FIELD: event.model_dump_json()})


@pytest.mark.parametrize(
    ("ledger", "wrong"),
    [
        (Ledger(answers=["r"], events={SALE.event_id: 5_000_000}), {}),
        (Ledger(answers=["r", "q"], events={SALE.event_id: 5_000_000}), {"lost_answers": 1}),
        (
            Ledger(answers=["r"], events={SALE.event_id: 5_000_000, "other": 0}),
            {"lost_events": 1},
        ),
        (Ledger(answers=["r"]), {"strange_events": 1, "sent_micros": 0}),
        (
            Ledger(answers=["r"], events={SALE.event_id: 5_000_001}),
            {"sent_micros": 5_000_001},
        ),
        (
            Ledger(answers=["r"], events={SALE.event_id: 5_000_000}, faults=["refused"]),
            {"faults": ("refused",)},
        ),
    ],
)
def test_the_comparison_sees_what_is_wrong(
    ledger: Ledger, wrong: dict[str, object], tmp_path: Path
) -> None:
    with Store(Settings(data_dir=tmp_path)) as store, store.sync_client() as client:
        fill(client, [ANSWER.model_copy(update={"event_id": "r"}), SALE])
    result = compare(tmp_path, [ledger], Counter(store=1), 0, 1.0)
    right = {
        "lost_answers": 0,
        "lost_events": 0,
        "doubled": 0,
        "strange_events": 0,
        "sent_micros": 5_000_000,
        "archived_micros": 5_000_000,
        "faults": (),
    }
    found = {name: getattr(result, name) for name in right}
    assert found == right | wrong
    assert result.clean == (not wrong)


def test_the_comparison_sees_what_is_doubled(tmp_path: Path) -> None:
    sent = Ledger(answers=["r"], events={SALE.event_id: 10_000_000})
    settings = Settings(data_dir=tmp_path)
    with Store(settings) as store, store.sync_client() as client:
        fill(client, [ANSWER.model_copy(update={"event_id": "r"}), SALE])
    assert compare(tmp_path, [sent], Counter(), 0, 1.0).doubled == 0
    [file] = settings.events_dir.glob("day=*/*.parquet")
    file.with_name("1-0-1-0.parquet").write_bytes(file.read_bytes())
    result = compare(tmp_path, [sent], Counter(), 0, 1.0)
    assert (result.doubled, result.sent_micros, result.archived_micros) == (2, 10**7, 10**7)
    assert not result.clean
    assert "| events or answers doubled | 2 |" in page(["about"], result)
