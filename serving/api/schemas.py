"""HTTP bodies: what all are made of, and those about recommendations, events and users.

Ids are strings, times are RFC 3339 with an offset, money is integer micros.
"""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

MAX_ITEMS = 200
MAX_EVENTS = 1000
MAX_BATCH = 100
MAX_HISTORY = 10_000
MAX_MICROS = 10**15
"""Largest revenue of one event: a thousand million currency units."""

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _whole(value: object) -> object:
    # 20.0 is an integer to JSON Schema, and to clients whose language has one kind of number.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _written_out(value: object) -> object:
    # Seconds since 1970 are numbers, or texts, of which nobody knows the unit.
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC_3339.match(value)):
        return value
    raise ValueError("Input should be an RFC 3339 time, such as 2026-01-31T12:00:00Z")


Whole = BeforeValidator(_whole)
Flag = Annotated[bool, Field(strict=True)]
Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Value = Annotated[str, StringConstraints(max_length=256)]


class Body(BaseModel):
    """Of a request or an answer: what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RecommendRequest(Body):
    """Ask for recommendations. An unknown user is answered like a newcomer."""

    user_id: Id
    num: Annotated[int, Field(strict=True, ge=1, le=MAX_ITEMS), Whole] = 20
    context: dict[Id, Value] = Field(default={}, max_length=64)
    """Values of the bundle's context fields; unknown names and values are ignored."""
    exclude: tuple[Id, ...] = Field(default=(), max_length=1000)
    """Items that must not be in the answer."""
    ts: Moment | None = None
    """Time of the request; the server's clock if absent."""
    explain: Flag = False
    """Say of every item how it came into the answer, and of every stage what it did."""


class ItemExplanation(Body):
    """How an item came into the answer."""

    sources: tuple[str, ...]
    """Sources of recall that gave it; none where only a rule put it there."""
    scores: dict[str, float]
    """Its score by the name of the stage; a stage that did not score it, or failed, is absent."""
    rules: tuple[str, ...]
    """What of the last order moved it: `pin:NAME`, `boost:NAME`, `mmr`, `dpp`, `cap_broken:NAME`;
    `policy` is the name of the cap that an experiment sets."""


class RecommendedItem(Body):
    """One recommended item."""

    item_id: str
    position: int
    score: float
    """What the last order valued it by. Mostly descending; pins, caps and diversity move items."""
    explanation: ItemExplanation | None = None
    """Only where `explain` asks for it."""


class AssignedExperiment(Body):
    """The variant this answer was made with."""

    layer: str
    key: str
    revision: int
    variant: str


class StageExplanation(Body):
    """What a stage did for this answer."""

    name: str
    n_in: int
    n_out: int
    latency_us: int


class RecommendResponse(Body):
    """Items in order, with everything needed to attribute what happens next."""

    request_id: str
    items: tuple[RecommendedItem, ...]
    experiments: tuple[AssignedExperiment, ...]
    bundle: str
    """`name@version` of the bundle that answered."""
    degraded: tuple[str, ...]
    """Reasons why this answer is less than it should be; empty when all is well."""
    stages: tuple[StageExplanation, ...] | None = None
    """Only where `explain` asks for it."""
    latency_us: dict[str, int] | None = None
    """Time of each step; only where `explain` asks for it."""


class RecommendBatchRequest(Body):
    """Ask for several users at once, as for a mailing."""

    requests: tuple[RecommendRequest, ...] = Field(min_length=1, max_length=MAX_BATCH)


class BatchEntry(Body):
    """What became of one request of a batch: an answer, or why there is none."""

    answer: RecommendResponse | None = None
    problem: "Problem | None" = None


class RecommendBatchResponse(Body):
    """One entry a request, in their order."""

    answers: tuple[BatchEntry, ...]


class FeedbackEvent(Body):
    """What a user did with a recommended item."""

    event_id: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """Idempotency key; made by the server if absent, and then a retry counts again."""
    type: Literal["impression", "click", "conversion"]
    request_id: Id
    item_id: Id
    event_ts: Moment
    revenue_micros: (
        Annotated[int, Field(strict=True, ge=-MAX_MICROS, le=MAX_MICROS), Whole] | None
    ) = None
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = None
    refund_of: Id | None = None


class EventsRequest(Body):
    """A batch of feedback. Each event is judged alone: a bad one does not spoil the others."""

    events: tuple[dict[str, object], ...] = Field(min_length=1, max_length=MAX_EVENTS)
    """`FeedbackEvent` objects."""


class RejectedEvent(Body):
    """An event that was not taken, and why."""

    index: int
    reason: str


class EventsResponse(Body):
    """Acknowledged events are on disk."""

    accepted: int
    duplicates: int
    rejected: tuple[RejectedEvent, ...]


class Interaction(Body):
    """An item a user bought or otherwise took, wherever it was found."""

    item_id: Id
    ts: Moment


class InteractionsRequest(Body):
    """Append to a user's history, which the next request of that user is answered from."""

    interaction_id: Id | None = None
    """Idempotency key of the whole list, such as an order number."""
    interactions: tuple[Interaction, ...] = Field(min_length=1, max_length=MAX_EVENTS)


class InteractionsResponse(Body):
    """How many interactions were appended; 0 where the list was a duplicate."""

    appended: int


class PutUserRequest(Body):
    """Everything known about a user; replaces what was known before."""

    features: dict[Id, Value | None] = Field(default={}, max_length=64)
    """Values of the bundle's user fields; unknown names and values are ignored."""
    interactions: tuple[Interaction, ...] = Field(default=(), max_length=MAX_HISTORY)
    """The history in any order; the newest ones are kept."""


class Health(Body):
    """The server is up (`ok`) or able to answer (`ready`)."""

    status: Literal["ok", "ready"]


class Readiness(Body):
    """Requests can be answered, if need be without what `degraded` names."""

    status: Literal["ready"] = "ready"
    degraded: tuple[str, ...]
    """`store_away`: answers are made of what was last known, changes are refused; `log_behind`:
    events wait on the local disk for the store."""


class Problem(BaseModel):
    """RFC 9457 problem details, the body of every error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = []
    """For invalid bodies: field, rule and value, one entry a fault."""
