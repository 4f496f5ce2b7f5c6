"""The log becomes a dataset: what was seen, bought, refunded and dropped, and nothing of later."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from abtest.events import (
    ClickEvent,
    ConversionEvent,
    Event,
    ImpressionEvent,
    RankingEvent,
    StageTrace,
)
from abtest.log.archive import archive
from abtest.log.event_log import FIELD, STREAM
from cli.simulation.log import store
from tests.training.tables import Line, Source, corner_shop, day
from training.data.dataset import PreparedDataset, Split
from training.data.events import prepare_events
from training.data.logged import Depth, Logged
from training.data.source import DatasetError, SplitSection
from training.features import OOV

SPLIT = SplitSection(test_days=1, validation_days=3)
MINUTE_US = 60_000_000


def _answer(
    name: str,
    unit: str,
    days: float,
    items: Iterable[str],
    *,
    dropped: tuple[str, ...] = (),
    left: tuple[str, ...] = (),
    store: str = "s1",
) -> RankingEvent:
    """An answer with `items`; ranking dropped `dropped`, recall left `left` behind."""
    given = tuple(items)
    traces = []
    for stage, kept, lost in (("retrieval", (*given, *dropped), left), ("rank", given, dropped)):
        trace = StageTrace(
            name=stage,
            n_in=len(kept) + len(lost),
            n_out=len(kept),
            item_ids=(*kept, *lost),
            scores=(0.5,) * (len(kept) + len(lost)),
            survived=(True,) * len(kept) + (False,) * len(lost),
        )
        traces.append(trace)
    return RankingEvent(
        event_id=name,
        event_ts_us=day(days),
        ingest_ts_us=day(days),
        request_id=name,
        unit=unit,
        experiments=(),
        config_sha="c0ffee",
        bundle="b@1",
        context={"store": store},
        item_ids=given,
        scores=(0.5,) * len(given),
        stages=tuple(traces),
        latency_us={"total": 1},
        degraded=(),
    )


def _feedback(kind: type[Any], answer: RankingEvent, item: str, **more: Any) -> Event:  # noqa: ANN401
    fields: dict[str, Any] = {
        "event_id": f"{answer.request_id}-{kind.__name__}-{item}-{more.get('refund_of')}",
        "event_ts_us": answer.event_ts_us + MINUTE_US,
        "ingest_ts_us": answer.event_ts_us + MINUTE_US,
        "request_id": answer.request_id,
        "unit": answer.unit,
        "experiments": (),
        "item_id": item,
        "position": answer.item_ids.index(item),
    }
    event: Event = kind(**fields | more)
    return event


def _seen(answer: RankingEvent, *items: str) -> list[Event]:
    return [_feedback(ImpressionEvent, answer, item) for item in items]


def _bought(answer: RankingEvent, item: str, micros: int, currency: str = "EUR") -> list[Event]:
    money = {"revenue_micros": micros, "currency": currency}
    return [
        _feedback(ClickEvent, answer, item),
        _feedback(ConversionEvent, answer, item, **money),
    ]


FIRST = _answer("r1", "u1", 31, ("b", "c", "a"))
SECOND = _answer("r2", "u2", 33, ("c",), dropped=("a",), left=("b",), store="s3")
UNSEEN = _answer("r3", "u1", 34, ("a",))
NEWCOMER = _answer("r4", "n1", 38, ("a", "b"))
LAST = _answer("r5", "u1", 40, ("a",))
REFUND = _feedback(
    ConversionEvent, SECOND, "c", revenue_micros=-3_000_000, currency="EUR", refund_of="x"
)
LOG: tuple[Event, ...] = (
    *(FIRST, SECOND, UNSEEN, NEWCOMER, LAST),
    *_seen(FIRST, "b", "c"),
    *_bought(FIRST, "b", 2_500_000),
    *_seen(SECOND, "c"),
    *_bought(SECOND, "c", 3_000_000),
    REFUND,
    *_seen(NEWCOMER, "a"),
    *_bought(NEWCOMER, "a", 500_000),
    *_seen(LAST, "a"),
    *_bought(LAST, "a", 400_000),
)

Prepare = Callable[..., PreparedDataset]


@pytest.fixture(scope="module")
def socket() -> Iterable[Path]:
    with store() as path:
        yield path


@pytest.fixture
def prepared(socket: Path, tmp_path: Path) -> Prepare:
    """Archive events and prepare them beside the corner shop."""

    def prepare(
        events: Iterable[Event] = LOG, source: Source | None = None, *, clicks: bool = False
    ) -> PreparedDataset:
        with redis.Redis(unix_socket_path=str(socket)) as client:
            for event in events:
                client.xadd(STREAM, {FIELD: event.model_dump_json()})
            archive(client, tmp_path / "events")
        shop = (source or corner_shop()).write(tmp_path / "shop")
        return prepare_events(
            tmp_path / "events", shop, tmp_path / "out", split=SPLIT, clicks=clicks
        )

    return prepare


def _row(dataset: PreparedDataset, item: str) -> int:
    row = dataset.items.row(item)
    assert row != OOV
    return row


def test_requests_are_answers_of_which_something_was_seen(prepared: Prepare) -> None:
    dataset = prepared()
    arrays = dataset.arrays
    # Users by name, newcomers last: u1, u2, u3, n1. r3 was not looked at.
    assert arrays.request_user.tolist() == [0, 0, 1, 3]
    assert arrays.request_ts_us.tolist() == [day(31), day(40), day(33), day(38)]
    assert arrays.user_fields[3].tolist() == [OOV, OOV]
    assert (dataset.meta.test_start_us, dataset.meta.validation_start_us) == (day(39), day(36))
    assert dataset.meta.name == "corner-shop-events"
    periods = {split: dataset.requests(split).tolist() for split in Split}
    assert periods == {Split.TRAIN: [0, 2], Split.VALIDATION: [3], Split.TEST: [1]}
    stores = dataset.meta.context_fields[0].vocabulary
    assert [stores[i - 1] for i in arrays.request_context[:, 0]] == ["s1", "s1", "s3", "s1"]


def test_truth_is_what_was_bought_and_not_given_back(prepared: Prepare) -> None:
    dataset = prepared()
    arrays = dataset.arrays
    a, b = (_row(dataset, item) for item in "ab")
    assert arrays.truth_starts.tolist() == [0, 1, 2, 2, 3]
    assert arrays.truth_rows.tolist() == [b, a, a]
    assert arrays.truth_micros.tolist() == [2_500_000, 400_000, 500_000]


def test_clicks_count_where_they_are_asked_for(prepared: Prepare) -> None:
    looked = _feedback(ClickEvent, FIRST, "c")
    dataset = prepared((*LOG, looked), clicks=True)
    arrays = dataset.arrays
    b, c = (_row(dataset, item) for item in "bc")
    first = slice(arrays.truth_starts[0], arrays.truth_starts[1])
    found = dict(zip(arrays.truth_rows[first].tolist(), arrays.truth_micros[first].tolist(),
                     strict=True))  # fmt: skip
    assert found == {b: 2_500_000, c: 0}
    # Bought, clicked and given back: clicked still.
    second = slice(arrays.truth_starts[2], arrays.truth_starts[3])
    assert arrays.truth_micros[second].tolist() == [0]


def test_what_became_of_every_candidate(prepared: Prepare) -> None:
    dataset = prepared()
    logged = dataset.logged
    assert logged is not None
    depths = [
        {
            dataset.items.item_ids[row - 1]: Depth(depth)
            for row, depth in zip(
                logged.rows[start:end].tolist(), logged.depths[start:end].tolist(), strict=True
            )
        }
        for start, end in zip(logged.starts, logged.starts[1:], strict=False)
    ]
    assert depths == [
        {"a": Depth.RECOMMENDED, "b": Depth.SEEN, "c": Depth.SEEN},
        {"a": Depth.SEEN},
        {"a": Depth.DROPPED_BY_RANK, "b": Depth.DROPPED_BY_RECALL, "c": Depth.SEEN},
        {"a": Depth.SEEN, "b": Depth.RECOMMENDED},
    ]
    again = PreparedDataset(dataset.path).logged
    assert again is not None
    for name in Logged._fields:
        assert np.array_equal(getattr(logged, name), getattr(again, name))


def test_without_impressions_all_that_was_recommended_was_seen(prepared: Prepare) -> None:
    dataset = prepared([event for event in LOG if not isinstance(event, ImpressionEvent)])
    assert dataset.arrays.request_ts_us.tolist() == [day(31), day(34), day(40), day(33), day(38)]
    logged = dataset.logged
    assert logged is not None
    first = logged.depths[logged.starts[0] : logged.starts[1]]
    assert first.tolist() == [Depth.SEEN] * 3


def test_histories_hold_earlier_sales_of_shop_and_log(prepared: Prepare) -> None:
    dataset = prepared()
    arrays = dataset.arrays

    def history(request: int) -> list[str | None]:
        rows = arrays.purchase_rows[arrays.history_start[request] : arrays.history_end[request]]
        return [dataset.items.item_ids[row - 1] if row else None for row in rows]

    shop = ["a", "b", "b", "a", "a", "a", "c"]
    assert history(0) == shop
    assert history(1) == [*shop, "b"]
    assert history(3) == []


def test_a_sale_that_the_shop_has_too_counts_once(prepared: Prepare) -> None:
    source = corner_shop()
    source.lines.append(Line("u1", "b", day(31) + MINUTE_US, "2.50", "2.50"))
    dataset = prepared(source=source)
    arrays = dataset.arrays
    assert arrays.history_end[1] - arrays.history_start[1] == 8
    assert arrays.truth_micros.tolist() == [2_500_000, 400_000, 500_000]


def test_an_event_in_two_files_counts_once(prepared: Prepare, tmp_path: Path) -> None:
    once = prepared().meta.fingerprint
    for path in list((tmp_path / "events").glob("day=*/*.parquet")):
        shutil.copy(path, path.with_name("0-0-0-0.parquet"))
    assert prepared(events=()).meta.fingerprint == once


def test_items_are_eligible_that_were_bought_or_shown_in_the_training_period(
    prepared: Prepare,
) -> None:
    shown = _answer("r6", "u3", 32, ("z",))
    never = prepared()
    assert never.items.row("z") == OOV
    assert _row(prepared((shown, *_seen(shown, "z"))), "z")


def test_what_cannot_be_used(prepared: Prepare, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"events holds no archived events; let a server answer"):
        prepared(events=())
    other = _answer("r7", "u1", 35, ("quux",))
    with pytest.raises(DatasetError, match=r"item 'quux' was recommended and is not in sku of it"):
        prepared((other,))
    shutil.rmtree(tmp_path / "events")
    dollars = _bought(FIRST, "b", 1, "USD")[1]
    with pytest.raises(DatasetError, match=r"is in USD, the shop's tables in EUR; leave such"):
        prepared((FIRST, dollars))
    shutil.rmtree(tmp_path / "events")
    with pytest.raises(DatasetError, match=r"0\.0 days of answers leave none for training after 1"):
        prepared((FIRST, *_seen(FIRST, "b")))
    shutil.rmtree(tmp_path / "events")
    with pytest.raises(DatasetError, match=r"holds feedback and no answers; nothing can be learnt"):
        prepared(_seen(FIRST, "b"))


def test_files_that_are_no_archive(prepared: Prepare, tmp_path: Path) -> None:
    path = tmp_path / "events" / "day=2024-02-01" / "1-0-2-0.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no Parquet")
    with pytest.raises(DatasetError, match=r"events cannot be read as archived events: "):
        prepared(events=())
    path.unlink()
    prepared()
    (file,) = (tmp_path / "events").glob("day=2024-02-01/*.parquet")
    table = pq.read_table(file)
    broken = pa.array(['{"type": "ranking"}'] * len(table), pa.string())
    column = table.column_names.index("event")
    pq.write_table(table.set_column(column, "event", broken), file)
    with pytest.raises(DatasetError, match=r"event r1 is no event of this release \(Field requir"):
        prepared(events=())
    money = table.column_names.index("revenue_micros")
    nothing = pa.nulls(len(table), table.schema.field(money).type)
    pq.write_table(table.set_column(money, table.schema.field(money), nothing), file)
    with pytest.raises(DatasetError, match=r"is a conversion without revenue or currency; it was"):
        prepared(events=())


def test_what_led_to_nothing_is_learnt_from_and_not_measured(prepared: Prepare) -> None:
    idle = [_answer(f"r{8 + n}", "u3", days, ("a", "b")) for n, days in enumerate((32, 37, 39.5))]
    looked = [event for answer in idle for event in _seen(answer, "a")]
    dataset = prepared((*LOG, *idle, *looked))
    arrays = dataset.arrays
    nothing = set(np.flatnonzero(arrays.request_user == 2).tolist())
    assert len(nothing) == 3
    measured = {Split.VALIDATION: {day(38)}, Split.TEST: {day(40)}}
    for split, times in measured.items():
        assert set(arrays.request_ts_us[dataset.requests(split)].tolist()) == times
    assert len(nothing & set(dataset.requests(Split.TRAIN).tolist())) == 1
