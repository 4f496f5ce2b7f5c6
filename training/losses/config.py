"""Loss configuration: the `[loss]` section of a run."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

LossName = Literal[
    "bce", "icc", "rankflow", "fs_ranknet", "fs_lambdaloss", "arf", "arf_v2", "lcron",
    "dftopk", "lapsum", "sparse", "logistic", "conditional",
]  # fmt: skip


class LossConfig(BaseModel):
    """Which loss, and how soft it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: LossName = "conditional"
    tau: float = Field(default=1.0, gt=0)
    """Temperature of the losses that relax a sort or a cut, in the unit of the scores."""
    sort: Literal["neuralsort", "softsort", "diffsort"] = "neuralsort"
    """The relaxed sort of arf, arf_v2 and lcron."""
