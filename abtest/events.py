"""Events: what was answered and what users did about it. All that is reported comes from these.

Four types share one log. `ranking` is written by the server with every answer; `impression`,
`click` and `conversion` arrive as feedback and name the `request_id` of the answer they are about.
Feedback that was accepted carries the unit and the experiments of its answer, so that a reader
needs no join to know the bucket.
"""

import os
import time
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA_VERSION: Final = 1

RANKING: Final = "ranking"
IMPRESSION: Final = "impression"
CLICK: Final = "click"
CONVERSION: Final = "conversion"
FEEDBACK_TYPES = (IMPRESSION, CLICK, CONVERSION)


def new_event_id() -> str:
    """A time-ordered unique id (UUID version 7, RFC 9562), as 32 hexadecimal digits."""
    unix_ms = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    high, low = noise >> 62 & 0xFFF, noise & (1 << 62) - 1
    return f"{unix_ms << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low:032x}"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Assignment(_Frozen):
    """The variant a unit was given in one experiment of one layer."""

    layer: str
    key: str
    revision: int
    variant: str
    propensity: float = Field(gt=0, le=1)
    """Probability with which this unit got this variant."""
    forced: bool = False
    """Set by configuration, not by chance: such traffic is excluded from analysis."""
    cluster: str | None = None
    """The unit of analysis where it is not the event's unit: the period of a switchback."""


class StageTrace(_Frozen):
    """What one stage did: survivors and a uniform sample of those it dropped."""

    name: str
    n_in: int
    """Candidates the stage scored."""
    n_out: int
    """Candidates it passed on."""
    item_ids: tuple[str, ...]
    """The best survivors in order, then the sampled dropped ones."""
    scores: tuple[float, ...]
    survived: tuple[bool, ...]


class _Event(_Frozen):
    event_id: str
    schema_version: Literal[1] = SCHEMA_VERSION
    event_ts_us: int
    """When it happened, microseconds since the Unix epoch."""
    ingest_ts_us: int
    """When the server took it in."""
    request_id: str
    unit: str
    experiments: tuple[Assignment, ...]


class RankingEvent(_Event):
    """One answer of the cascade."""

    type: Literal["ranking"] = RANKING
    config_sha: str
    """Hash of the experiment configuration the answer was split by."""
    bundle: str
    """Name and version of the bundle, `name@version`; of an interleaved answer both, joined by `+`,
    and the stages of the second begin with `second.`."""
    context: dict[str, str]
    item_ids: tuple[str, ...]
    """Recommended items by position, which counts from 0."""
    scores: tuple[float, ...]
    stages: tuple[StageTrace, ...]
    latency_us: dict[str, int]
    """Time spent by step; `total` is the whole request inside the server."""
    degraded: tuple[str, ...]
    teams: tuple[str, ...] = ()
    """Of an answer interleaved from two bundles, the served name each position is credited to;
    empty for a position that only one of them was able to fill."""


class _Feedback(_Event):
    item_id: str
    position: int
    """Position of the item in its answer."""


class ImpressionEvent(_Feedback):
    """A recommended item was seen."""

    type: Literal["impression"] = IMPRESSION


class ClickEvent(_Feedback):
    """A recommended item was clicked."""

    type: Literal["click"] = CLICK


class ConversionEvent(_Feedback):
    """A recommended item was bought; a refund has negative revenue and names what it takes back."""

    type: Literal["conversion"] = CONVERSION
    revenue_micros: int
    currency: str
    refund_of: str | None = None


FeedbackEvent = ImpressionEvent | ClickEvent | ConversionEvent
Event = RankingEvent | FeedbackEvent

EVENT_ADAPTER: TypeAdapter[RankingEvent | ImpressionEvent | ClickEvent | ConversionEvent] = (
    TypeAdapter(
        Annotated[
            RankingEvent | ImpressionEvent | ClickEvent | ConversionEvent,
            Field(discriminator="type"),
        ]
    )
)
"""Parses any event from its JSON: `EVENT_ADAPTER.validate_json(line)`."""
