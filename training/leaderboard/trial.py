"""Trial: one training run, and what became of it."""

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from training.losses.config import LossConfig
from training.recflow.environment import Environment

FORMAT: Literal[1] = 1
"""Goes up whenever a trial comes to mean something else; results of two formats are not mixed."""

Period = Literal["validation", "test"]
"""On what a trial is judged: `validation` chooses settings, `test` is looked at once they are
chosen. A trial trains on what lies before its period."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Trial(_Frozen):
    """What a run trains, beside what all runs of a leaderboard share."""

    method: str
    loss: LossConfig
    learning_rate: float
    seed: int
    period: Period
    negatives: int | None = None
    """Candidates of other requests that join each request's own; those of the shared
    configuration if absent."""

    @property
    def label(self) -> str:
        """For people."""
        negatives = "" if self.negatives is None else f" negatives {self.negatives}"
        return (
            f"{self.method} lr {self.learning_rate:g} tau {self.loss.tau:g} seed {self.seed}"
            f"{negatives}"
        )


class Moment(NamedTuple):
    """How a run stood while it trained."""

    seconds: float
    """Of training until then."""
    recall: float
    """Of the cascade as it stood, on requests that it had not learnt from yet."""


class Result(_Frozen):
    """What became of a trial."""

    format: Literal[1] = FORMAT
    fingerprint: str
    """Of the dataset."""
    trial: Trial
    config: dict[str, Any]
    """All that was trained."""
    scores: dict[str, float]
    """Each measure on the judged period; empty where training failed."""
    score: float
    """The measure that decides; 0 where training failed."""
    failed: str | None
    """Why training did not last, None where it did."""
    seconds: float
    """Of training."""
    requests: int
    """Trained on."""
    step_ms: float
    """Of training, a step."""
    curve: tuple[Moment, ...]
    wall_seconds: float
    """Of the whole trial, judging included."""
    environment: Environment
    """It ran in."""

    @property
    def requests_per_s(self) -> float:
        """Training speed; 0 where training failed."""
        return self.requests / self.seconds if self.seconds else 0.0
