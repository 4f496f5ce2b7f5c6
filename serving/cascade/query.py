"""Query: what a bundle needs to know about a request, and the outcome it gives."""

from typing import NamedTuple

from abtest.events import StageTrace
from serving.cascade.ladder import Rung
from serving.cascade.policy import Policy
from serving.state.feature_store import UserState


class Query(NamedTuple):
    """One request to a funnel."""

    request_id: str
    user: UserState
    context: dict[str, str]
    exclude: tuple[str, ...]
    num: int
    ts_us: int
    policy: Policy
    rung: Rung = Rung.WHOLE
    explain: bool = False


class Explanation(NamedTuple):
    """How one item came into an answer."""

    sources: tuple[str, ...]
    """Sources of recall that gave it."""
    scores: dict[str, float]
    """Its score by stage."""
    rules: tuple[str, ...]
    """Rules of the last order that touched it."""


class Outcome(NamedTuple):
    """The answer and how it came about."""

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    stages: tuple[StageTrace, ...]
    latency_us: dict[str, int]
    """By step; a step that was run for several requests together counts for each in full."""
    degraded: tuple[str, ...]
    explanations: tuple[Explanation, ...] | None = None
    """By position, where they were asked for."""
