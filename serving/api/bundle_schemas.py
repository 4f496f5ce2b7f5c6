"""HTTP bodies about bundles."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from serving.api.schemas import Body

FolderName = Annotated[
    str, StringConstraints(max_length=128, pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$")
]
"""Name of a folder under the bundles' folder, of which hidden ones are drafts."""


class BundleInfo(Body):
    """A bundle that is loaded."""

    name: str
    version: str
    created: datetime
    stages: tuple[str, ...]


class ActivateRequest(Body):
    """Answer under a name with another bundle."""

    source: FolderName | None = None
    """Folder that the bundle lies in; the one of the served name if absent."""


class ActivateResponse(Body):
    """The bundle answers in this worker, and soon in all."""

    name: str
    source: str
    bundle: str
    """`name@version` of the bundle that answers now."""
    previous_source: str
    """Activate this one to go back."""
    previous_bundle: str
    tested_requests: int
    """Requests that the bundle answered before it was let in."""
    median_ms: float
    """What one of them took, alone."""
    took_ms: float
    """From the call to the swap."""


class ShadowRequest(Body):
    """Try a candidate beside a bundle that answers."""

    source: FolderName
    """Folder that the candidate lies in."""
    share: float = Field(ge=0, le=1, allow_inf_nan=False)
    """Share of the requests that it scores; 0 ends the trial."""


class ShadowTimes(Body):
    """Time of a request in a bundle; null before the first one."""

    p50_ms: float | None
    p95_ms: float | None


class ShadowReport(Body):
    """What all workers found in a trial; means are null before the first request."""

    name: str
    source: str
    bundle: str
    """`name@version` of the candidate."""
    share: float
    since: datetime
    compared: int
    """Requests that both answered."""
    failed: int
    """Requests that the candidate failed on, where the bundle that answers did not."""
    dropped: int
    """Requests of the share that were not scored, because a worker was busy."""
    overlap: float | None
    """Mean share of the items that both answers have."""
    overlap_first: float | None
    """Share of the requests whose first items are the same."""
    rank_correlation: float | None
    """Mean of Spearman's, of the items that both answers have."""
    served: ShadowTimes
    candidate: ShadowTimes


class ServedBundle(Body):
    """What answers under a name in the worker that was asked."""

    name: str
    source: str
    bundle: str
    created: datetime
    since: datetime
    """When the worker began to answer with it."""
    fault: str | None
    """Why the worker does not answer with what was activated."""
    shadow: str | None
    """Folder of the candidate that is tried beside it."""
    shadow_fault: str | None
    """Why the worker does not try the candidate that it should."""


class BundlesResponse(Body):
    """What is served and what could be."""

    served: tuple[ServedBundle, ...]
    folders: tuple[str, ...]
    """On disk, whatever state they are in."""
    held: int
    """Bundles in the memory of the worker that was asked: those that answer, candidates, and those
    whose last requests are under way."""
