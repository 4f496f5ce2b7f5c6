"""Configuration of a run on RecFlow, read from TOML."""

import hashlib
import itertools
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.losses.config import LossConfig


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageConfig(_Section):
    """One stage of the cascade."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    model: Literal["dssm", "mlp", "din"]
    keep: int = Field(ge=1)
    """Candidates it passes on."""


TWO_STAGES = (
    StageConfig(name="retrieval", model="dssm", keep=30),
    StageConfig(name="prerank", model="din", keep=20),
)


class RecFlowConfig(_Section):
    """One training run on a prepared RecFlow log."""

    kind: Literal["recflow"] = "recflow"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    stages: tuple[StageConfig, ...] = Field(default=TWO_STAGES, min_length=2, max_length=3)
    """First to last; each keeps fewer than the one before."""
    loss: LossConfig = LossConfig()
    truth: int = Field(default=10, ge=1)
    """How many of the best graded candidates of a request are its truth."""
    negatives: int = Field(default=0, ge=0, le=1000)
    """Candidates of other requests of the batch that join each request's own."""
    batch_size: int = Field(default=1024, ge=2)
    epochs: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-2, gt=0)
    embedding_width: int = Field(default=8, ge=1)
    units: int = Field(default=128, ge=4, multiple_of=4)
    """Width of the first hidden layer of every stage."""
    last_train_day: str | None = None
    """Trains on the days until this one; the day after is the test. All but the last day if
    absent."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products; weights, sums and losses stay float32."""
    checkpoint_steps: int = Field(default=500, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _narrowing(self) -> "RecFlowConfig":
        keeps = [stage.keep for stage in self.stages]
        if any(later >= former for former, later in itertools.pairwise(keeps)):
            raise ValueError(f"stages keep {keeps}; each must keep fewer than the one before")
        if len({stage.name for stage in self.stages}) < len(keeps):
            raise ValueError("two stages have the same name; give each one of its own")
        return self

    @property
    def sha256(self) -> str:
        """Hash of the configuration's content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
