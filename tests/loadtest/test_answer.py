"""Every way in which an answer can be wrong is told by name."""

import json
from typing import Any, NamedTuple

import pytest

from loadtest.answer import Outcome, Route, judge
from tests.loadtest.misbehaving import recommendation


class Response(NamedTuple):
    status_code: int
    content: bytes | None
    headers: Any = {}  # noqa: RUF012


def answer(**changes: object) -> Response:
    return Response(200, json.dumps(recommendation(3, **changes)).encode())


def items(**changes: object) -> list[dict[str, object]]:
    return [{"item_id": "i", "position": 0, "score": 1.0, **changes}]


def test_a_good_answer_is_ok_and_handed_on() -> None:
    verdict, body = judge(Route.RECOMMEND, 3, answer())
    assert verdict == (Outcome.OK, ())
    assert body == recommendation(3)
    assert judge(Route.RECOMMEND, 20, answer())[0].outcome is Outcome.OK


def test_a_degraded_answer_is_handed_on_with_its_reasons() -> None:
    verdict, body = judge(Route.RECOMMEND, 3, answer(degraded=["no store", "x"]))
    assert verdict == (Outcome.DEGRADED, ("no store", "x"))
    assert body["items"]


@pytest.mark.parametrize("route", Route)
def test_a_refusal_is_shed_only_if_it_says_when_to_come_back(route: Route) -> None:
    polite = Response(503, b"{}", {"retry-after": "1"})
    assert judge(route, 1, polite) == ((Outcome.SHED, ()), {})
    verdict, _ = judge(route, 1, Response(503, b"{}"))
    assert verdict == (Outcome.FAILED, (f"{route}: status 503",))


@pytest.mark.parametrize(
    ("response", "fault"),
    [
        (Response(0, None, None), "no answer"),
        (Response(202, b"{}"), "status 202"),
        (Response(200, b""), "the body is no JSON"),
        (Response(200, b'{"items": ['), "the body is no JSON"),
        (Response(200, b"[]"), "the body lacks a field or has one of a wrong type (TypeErr"),
        (
            Response(200, b"{}"),
            "the body lacks a field or has one of a wrong type (KeyError('items",
        ),
        (answer(request_id=""), "the answer names no request or no bundle"),
        (answer(bundle=None), "the answer names no request or no bundle"),
        (answer(degraded=None), "degraded is no list of reasons"),
        (answer(degraded=[1]), "degraded is no list of reasons"),
        (answer(items=[]), "0 items for 3 asked"),
        (answer(items=4 * items()), "4 items for 3 asked"),
        (answer(items=items(position=1)), "positions do not count from 0"),
        (answer(items=[*items(), *items(position=1)]), "an item stands twice in the answer"),
        (answer(items=items(score=None)), "the body lacks a field or has one of a wrong type (Ty"),
    ],
)
def test_a_wrong_recommendation_is_failed(response: Response, fault: str) -> None:
    (outcome, reasons), body = judge(Route.RECOMMEND, 3, response)
    assert outcome is Outcome.FAILED
    assert reasons[0].startswith(f"recommend: {fault}")
    assert body == {}


@pytest.mark.parametrize(
    ("route", "status", "body", "fault"),
    [
        (Route.EVENTS, 202, {"accepted": 2, "duplicates": 0, "rejected": []}, None),
        (Route.EVENTS, 202, {"accepted": 1, "duplicates": 1, "rejected": []}, None),
        (
            Route.EVENTS, 202, {"accepted": 1, "duplicates": 0, "rejected": [{"reason": "late"}]},
            "events: an event was rejected: late",
        ),
        (
            Route.EVENTS, 202, {"accepted": 1, "duplicates": 0, "rejected": []},
            "events: accepted and duplicates do not add up to what was sent",
        ),
        (Route.EVENTS, 200, {}, "events: status 200"),
        (Route.INTERACTIONS, 200, {"appended": 2}, None),
        (
            Route.INTERACTIONS, 200, {"appended": 1},
            "interactions: not every interaction was appended",
        ),
    ],
)  # fmt: skip
def test_answers_to_feedback_are_judged(
    route: Route, status: int, body: dict[str, object], fault: str | None
) -> None:
    (outcome, reasons), _ = judge(route, 2, Response(status, json.dumps(body).encode()))
    assert reasons == (() if fault is None else (fault,))
    assert outcome is (Outcome.OK if fault is None else Outcome.FAILED)
