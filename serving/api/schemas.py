"""HTTP bodies. Ids are strings, times are RFC 3339 with an offset, money is integer micros."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from abtest.experiment import ExperimentConfig

MAX_ITEMS = 200
MAX_EVENTS = 1000
MAX_BATCH = 100
MAX_HISTORY = 10_000
MAX_MICROS = 10**15
"""Largest revenue of one event: a thousand million currency units."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Value = Annotated[str, StringConstraints(max_length=256)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RecommendRequest(_Body):
    """Ask for recommendations. An unknown user is answered like a newcomer."""

    user_id: Id
    num: int = Field(default=20, ge=1, le=MAX_ITEMS, strict=True)
    context: dict[Id, Value] = Field(default={}, max_length=64)
    """Values of the bundle's context fields; unknown names and values are ignored."""
    exclude: tuple[Id, ...] = Field(default=(), max_length=1000)
    """Items that must not be in the answer."""
    ts: AwareDatetime | None = None
    """Time of the request; the server's clock if absent."""
    explain: bool = False
    """Add per-stage timings and candidate counts."""


class RecommendedItem(_Body):
    """One recommended item."""

    item_id: str
    position: int
    score: float


class AssignedExperiment(_Body):
    """The variant this answer was made with."""

    layer: str
    key: str
    revision: int
    variant: str


class StageExplanation(_Body):
    """What a stage did for this answer."""

    name: str
    n_in: int
    n_out: int
    latency_us: int


class RecommendResponse(_Body):
    """Items in order, with everything needed to attribute what happens next."""

    request_id: str
    items: tuple[RecommendedItem, ...]
    experiments: tuple[AssignedExperiment, ...]
    bundle: str
    """`name@version` of the bundle that answered."""
    degraded: tuple[str, ...]
    """Reasons why this answer is less than it should be; empty when all is well."""
    stages: tuple[StageExplanation, ...] | None = None


class RecommendBatchRequest(_Body):
    """Ask for several users at once, as for a mailing."""

    requests: tuple[RecommendRequest, ...] = Field(min_length=1, max_length=MAX_BATCH)


class BatchEntry(_Body):
    """What became of one request of a batch: an answer, or why there is none."""

    answer: RecommendResponse | None = None
    problem: "Problem | None" = None


class RecommendBatchResponse(_Body):
    """One entry a request, in their order."""

    answers: tuple[BatchEntry, ...]


class FeedbackEvent(_Body):
    """What a user did with a recommended item."""

    event_id: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """Idempotency key; made by the server if absent, and then a retry counts again."""
    type: Literal["impression", "click", "conversion"]
    request_id: Id
    item_id: Id
    event_ts: AwareDatetime
    revenue_micros: int | None = Field(default=None, ge=-MAX_MICROS, le=MAX_MICROS, strict=True)
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = None
    refund_of: Id | None = None


class EventsRequest(_Body):
    """A batch of feedback. Each event is judged alone: a bad one does not spoil the others."""

    events: tuple[dict[str, object], ...] = Field(min_length=1, max_length=MAX_EVENTS)
    """`FeedbackEvent` objects."""


class RejectedEvent(_Body):
    """An event that was not taken, and why."""

    index: int
    reason: str


class EventsResponse(_Body):
    """Acknowledged events are on disk."""

    accepted: int
    duplicates: int
    rejected: tuple[RejectedEvent, ...]


class Interaction(_Body):
    """An item a user bought or otherwise took, wherever it was found."""

    item_id: Id
    ts: AwareDatetime


class InteractionsRequest(_Body):
    """Append to a user's history, which the next request of that user is answered from."""

    interaction_id: Id | None = None
    """Idempotency key of the whole list, such as an order number."""
    interactions: tuple[Interaction, ...] = Field(min_length=1, max_length=MAX_EVENTS)


class InteractionsResponse(_Body):
    """How many interactions were appended; 0 where the list was a duplicate."""

    appended: int


class PutUserRequest(_Body):
    """Everything known about a user; replaces what was known before."""

    features: dict[Id, Value | None] = Field(default={}, max_length=64)
    """Values of the bundle's user fields; unknown names and values are ignored."""
    interactions: tuple[Interaction, ...] = Field(default=(), max_length=MAX_HISTORY)
    """The history in any order; the newest ones are kept."""


class BundleInfo(_Body):
    """A bundle that is loaded."""

    name: str
    version: str
    created: datetime
    stages: tuple[str, ...]


class ExperimentsResponse(_Body):
    """The experiments now running and the bundles they can choose from."""

    config_sha: str
    config: ExperimentConfig
    bundles: dict[str, BundleInfo]


class Health(_Body):
    """The server is up (`ok`) or able to answer (`ready`)."""

    status: Literal["ok", "ready"]


class Problem(BaseModel):
    """RFC 9457 problem details, the body of every error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = []
    """For invalid bodies: field, rule and value, one entry a fault."""
