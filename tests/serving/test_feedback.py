import time
from typing import Any

import httpx
import pytest

from abtest.events import new_event_id
from serving.api.signature import open_signer
from serving.feedback import FeedbackError, parse
from tests.serving.world import ServerProcess

TS = "2026-03-01T12:00:00Z"


@pytest.fixture(scope="module")
def answer(http: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = http.post("/v1/recommend", json={"user_id": "u1", "num": 3}).json()
    return found


def event(answer: dict[str, Any], kind: str = "click", **more: object) -> dict[str, object]:
    about = {"request_id": answer["request_id"], "item_id": answer["items"][1]["item_id"]}
    return {"type": kind, "event_ts": TS, **about, **more}


def post(http: httpx.Client, *events: dict[str, object]) -> dict[str, Any]:
    response = http.post("/v1/events", json={"events": events})
    assert response.status_code == 202, response.text
    body: dict[str, Any] = response.json()
    return body


MONEY: dict[str, object] = {"revenue_micros": 1_990_000, "currency": "USD"}


def test_good_events_are_accepted_once(http: httpx.Client, answer: dict[str, Any]) -> None:
    batch = [
        event(answer, "impression", event_id="good-1"),
        event(answer, "click", event_id="good-2"),
        event(answer, "conversion", event_id="good-3", **MONEY),
        event(answer, "conversion", event_id="good-3", **MONEY),
    ]
    assert post(http, *batch) == {"accepted": 3, "duplicates": 1, "rejected": []}
    assert post(http, *batch) == {"accepted": 0, "duplicates": 4, "rejected": []}


def test_refund_names_what_it_takes_back(http: httpx.Client, answer: dict[str, Any]) -> None:
    refund = event(
        answer, "conversion", revenue_micros=-5, currency="USD", refund_of="good-3", event_id="r"
    )
    assert post(http, refund)["accepted"] == 1


def refund(answer: dict[str, Any], name: str, of: str, micros: int) -> dict[str, object]:
    money = {"revenue_micros": -micros, "currency": "USD", "refund_of": of}
    return event(answer, "conversion", event_id=name, **money)


def test_refunds_take_back_what_was_sold_and_no_more(
    http: httpx.Client, answer: dict[str, Any]
) -> None:
    sold = event(answer, "conversion", event_id="sold", **MONEY)
    too_much = refund(answer, "all", "sold", 1_990_001)
    taken = {"accepted": 1, "duplicates": 0, "rejected": []}
    # The refund stands before its purchase: it is judged after it.
    [rejected] = post(http, too_much, sold)["rejected"]
    assert rejected == {
        "index": 0,
        "reason": "revenue_micros -1990001 takes back more than is left of 'sold', which sold for "
        "1990000; send what is left, or nothing where that refund was sent before",
    }
    assert post(http, refund(answer, "part", "sold", 990_000)) == taken
    assert post(http, refund(answer, "part", "sold", 990_000)) == taken | {
        "accepted": 0,
        "duplicates": 1,
    }
    assert len(post(http, refund(answer, "rest", "sold", 1_000_001))["rejected"]) == 1
    assert post(http, refund(answer, "rest", "sold", 1_000_000)) == taken
    assert post(http, refund(answer, "part", "sold", 990_000))["duplicates"] == 1
    [rejected] = post(http, refund(answer, "again", "sold", 1))["rejected"]
    assert rejected["reason"].startswith("revenue_micros -1 takes back more than is left of 'sold'")


def test_a_refund_of_what_was_never_sold_is_refused(
    http: httpx.Client, answer: dict[str, Any]
) -> None:
    reply = post(
        http, event(answer, "click", event_id="beside it"), refund(answer, "none", "no sale", 1)
    )
    assert reply == {
        "accepted": 1,
        "duplicates": 0,
        "rejected": [
            {
                "index": 1,
                "reason": "refund_of 'no sale' is no conversion of the last days, or not known "
                "yet; send the event_id of the conversion that is taken back, or try again",
            }
        ],
    }
    [rejected] = post(http, refund(answer, "of a refund", "rest", 1))["rejected"]
    assert "takes back more than is left of 'rest', which sold for -1000000" in rejected["reason"]


def test_one_bad_event_changes_nothing_about_how_good_ones_are_read(
    http: httpx.Client, answer: dict[str, Any]
) -> None:
    """Good batches are read together, others one by one."""
    good = [event(answer, "conversion", event_id=f"slow-{n}", **MONEY) for n in range(3)]
    contradicting = event(answer, "click", revenue_micros=1)
    reply = post(http, *good[:2], contradicting)
    assert (reply["accepted"], [r["index"] for r in reply["rejected"]]) == (2, [2])
    reply = post(http, {"type": "wink"}, *good, contradicting)
    assert (reply["accepted"], reply["duplicates"]) == (1, 2)
    assert [r["index"] for r in reply["rejected"]] == [0, 4]


def test_bad_events_do_not_spoil_good_ones(http: httpx.Client, answer: dict[str, Any]) -> None:
    reply = post(
        http,
        event(answer, "purchase"),
        event(answer, "click", event_id="amid bad ones"),
        {**event(answer), "request_id": "never answered"},
        {**event(answer), "item_id": "never shown"},
    )
    assert reply["accepted"] == 1
    assert reply["rejected"] == [
        {
            "index": 0,
            "reason": "type: Input should be 'impression', 'click' or 'conversion' "
            "(got 'purchase')",
        },
        {
            "index": 2,
            "reason": "request_id 'never answered' is unknown; "
            "send the request_id of an answer of the last days",
        },
        {
            "index": 3,
            "reason": f"item_id 'never shown' was not in answer {answer['request_id']}; "
            "feedback is about recommended items",
        },
    ]


@pytest.mark.parametrize(("age_days", "accepted"), [(0, 1), (6, 1), (8, 0)])
def test_genuine_answer_that_is_not_found_is_waited_for_if_it_is_young(
    http: httpx.Client, server: ServerProcess, answer: dict[str, Any], age_days: int, accepted: int
) -> None:
    """It may be in the journal of another worker, until what was kept of it has expired."""
    made_ms = time.time_ns() // 1_000_000 - age_days * 86_400_000
    event_id = f"{made_ms:012x}" + new_event_id()[12:]
    request_id = open_signer(server.data_dir, None).sign(event_id)
    reply = post(http, {**event(answer), "request_id": request_id})
    assert reply["accepted"] == accepted
    reason = f"request_id {request_id!r} is unknown; send the request_id of an answer of the last"
    assert [r["reason"][: len(reason)] for r in reply["rejected"]] == [reason][accepted:]


GOOD: dict[str, object] = {
    "type": "conversion",
    "request_id": "r",
    "item_id": "i",
    "event_ts": TS,
    **MONEY,
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"revenue_micros": None}, "revenue_micros is missing; a conversion needs revenue_micros "
         "and currency"),
        ({"currency": None}, "currency is missing; a conversion needs revenue_micros and currency"),
        ({"revenue_micros": -1}, "revenue_micros -1 is negative; a refund names the conversion it "
         "takes back in refund_of"),
        ({"refund_of": "e"}, "revenue_micros 1990000 must be negative where refund_of is set"),
        ({"type": "click"}, "revenue_micros is for conversions only; send a conversion beside this "
         "click"),
        ({"revenue_micros": 1.5}, "revenue_micros: Input should be a valid integer (got '1.5')"),
        ({"revenue_micros": True}, "revenue_micros: Input should be a valid integer (got 'True')"),
        ({"revenue_micros": float("nan")}, "revenue_micros: Input should be a valid integer "
         "(got 'nan')"),
        ({"revenue_micros": "NaN"}, "revenue_micros: Input should be a valid integer (got 'NaN')"),
        ({"currency": "usd"}, "currency: String should match pattern '^[A-Z]{3}$' (got 'usd')"),
        ({"event_ts": "2026-03-01T12:00:00"}, "event_ts: Input should have timezone info "
         "(got '2026-03-01T12:00:00')"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted (got 'red')"),
        ({"item_id": ["i"]}, "item_id: Input should be a valid string"),
    ],
)  # fmt: skip
def test_reasons(change: dict[str, object], reason: str) -> None:
    with pytest.raises(FeedbackError) as caught:
        parse(GOOD | change)
    assert str(caught.value) == reason


def test_events_of_the_future_schema_are_named(http: httpx.Client) -> None:
    assert post(http, {})["rejected"] == [{"index": 0, "reason": "type: Field required"}]
