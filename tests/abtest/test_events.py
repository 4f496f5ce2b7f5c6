import time
import uuid

import pytest
from pydantic import ValidationError

from abtest.events import EVENT_ADAPTER, new_event_id
from tests.abtest.traffic import assignment, click, conversion, impression, ranking


def test_event_ids_are_uuid7_unique_and_ordered_by_time() -> None:
    before = time.time_ns() // 10**6
    first = new_event_id()
    time.sleep(0.002)
    second = new_event_id()
    after = time.time_ns() // 10**6
    parsed = uuid.UUID(first)
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert before <= parsed.int >> 80 <= after
    assert first < second
    assert len({new_event_id() for _ in range(10_000)}) == 10_000


def test_every_type_survives_json() -> None:
    answer = ranking("r1", "u1", [assignment("new")])
    for event in (answer, impression(answer, 0), click(answer, 1), conversion(answer, 2, -5)):
        assert EVENT_ADAPTER.validate_json(event.model_dump_json()) == event


def test_unknown_type_and_schema_are_refused() -> None:
    text = click(ranking("r1", "u1", []), 0).model_dump_json()
    with pytest.raises(ValidationError, match="'ranking', 'impression', 'click', 'conversion'"):
        EVENT_ADAPTER.validate_json(text.replace('"type":"click"', '"type":"wink"'))
    with pytest.raises(ValidationError, match="Input should be 1"):
        EVENT_ADAPTER.validate_json(text.replace('"schema_version":1', '"schema_version":2'))
