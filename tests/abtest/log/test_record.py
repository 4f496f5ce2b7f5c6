import orjson
import pytest

from abtest.events import EVENT_ADAPTER
from abtest.log.attribution import ANSWER, REPORT, Answer, AttributionError, Report, attribute
from abtest.log.record import Kind, feedback_record, ranking_record, report_record, unpack
from tests.abtest.traffic import assignment, click, conversion, impression, ranking

ANSWERED = ranking("r1", "ünit", [assignment("new"), assignment("old", forced=True)])
REPORTED = Report("conversion", "é1", 5, 6, "r1", "i3", -7, "EUR", "e0")


def test_content_is_the_event_itself() -> None:
    record = ranking_record(ANSWERED)
    assert EVENT_ADAPTER.validate_json(record.content) == ANSWERED
    assert orjson.loads(record.content) == ANSWERED.model_dump(mode="json")
    answer = Answer("ünit", ANSWERED.experiments, ANSWERED.item_ids)
    assert ANSWER.validate_json(record.value) == answer
    assert record.key == b"answer:r1"
    for event in (impression(ANSWERED, 0), click(ANSWERED, 1), conversion(ANSWERED, 2, -5)):
        record = feedback_record(event)
        assert EVENT_ADAPTER.validate_json(record.content) == event
        assert record.key == f"event:{event.event_id}".encode()


def test_records_survive_the_journal() -> None:
    for record in (
        ranking_record(ANSWERED),
        feedback_record(click(ANSWERED, 1)),
        report_record(REPORTED),
    ):
        assert unpack(record.pack()) == record
    kept = report_record(REPORTED)
    assert (kept.kind, kept.key, kept.value) == (Kind.REPORT, "event:é1".encode(), "é1".encode())
    assert REPORT.validate_json(kept.content) == REPORTED


def test_report_is_joined_to_its_answer() -> None:
    answer = Answer("ünit", ANSWERED.experiments, ANSWERED.item_ids)
    event = attribute(REPORTED, answer)
    assert event.model_dump(exclude={"experiments"}) == {
        **REPORTED._asdict(),
        "schema_version": 1,
        "unit": "ünit",
        "position": 3,
    }
    assert event.experiments == ANSWERED.experiments
    plain = Report("impression", "e", 5, 6, "r1", "i3")
    assert attribute(plain, answer).type == "impression"
    assert attribute(plain._replace(type="click"), answer).type == "click"


def test_report_about_another_item_is_refused() -> None:
    answer = Answer("ünit", ANSWERED.experiments, ANSWERED.item_ids)
    with pytest.raises(
        AttributionError,
        match="item_id 'x' was not in answer r1; feedback is about recommended items",
    ):
        attribute(REPORTED._replace(item_id="x"), answer)
