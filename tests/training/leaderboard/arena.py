"""An arena in memory, whose recall is known."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
from pydantic import BaseModel

from training.leaderboard.arena import Diverged, Judged, Measure, Outcome
from training.leaderboard.trial import Moment, Trial
from training.losses.config import LossName

REQUESTS = 400


class MemoryConfig(BaseModel):
    name: str
    loss: str
    tau: float
    learning_rate: float
    seed: int
    negatives: int
    size: int


class MemoryArena:
    """A method's recall is `skill`, less what its setting is off `learning_rate`, plus the seed's.

    Every request has a difficulty of its own, so methods are told apart request by request.
    """

    name = "memory"
    losses = get_args(LossName)
    dataset = "made-up"
    curve_title = "recall on the way"
    measures = (
        Measure(key="joint", title="joint recall", table="All measures"),
        Measure(key="rank", title="rank recall", table="All measures"),
    )
    description = ("Nothing is trained.",)

    def __init__(self, skill: dict[str, float], fingerprint: str = "f" * 64, size: int = 1) -> None:
        self.skill, self.fingerprint, self.size = skill, fingerprint, size
        self.best_rate = 0.02
        self.noise = 0.001
        self.ran: list[Trial] = []
        self.stop_after: int | None = None
        self.diverges: Callable[[Trial], bool] = lambda _: False

    def config(self, trial: Trial) -> MemoryConfig:
        return MemoryConfig(
            name=trial.label,
            loss=f"{trial.loss.name} {trial.loss.sort}",
            tau=trial.loss.tau,
            learning_rate=trial.learning_rate,
            seed=trial.seed,
            negatives=trial.negatives or 0,
            size=self.size,
        )

    def recall(self, trial: Trial) -> float:
        random = np.random.default_rng([trial.seed, sum(trial.method.encode())])
        lost = 0.01 * abs(np.log2(trial.learning_rate / self.best_rate))
        won = 0.0002 * (trial.negatives or 0) ** 0.5
        return float(self.skill[trial.method] - lost + won + self.noise * random.normal())

    def run(self, trial: Trial, folder: Path, advance: Callable[[int, int], None]) -> Outcome:
        self.ran.append(trial)
        folder.mkdir()
        (folder / "weights").write_text("as many as there are")
        advance(1, 2)
        if self.stop_after is not None and len(self.ran) > self.stop_after:
            raise KeyboardInterrupt
        if self.diverges(trial):
            raise Diverged("the loss became nan in step 3")
        advance(2, 2)
        random = np.random.default_rng(7)
        hardness_R = random.normal(0, 0.1, REQUESTS)
        values_R = self.recall(trial) + hardness_R - hardness_R.mean()
        users_R = np.arange(REQUESTS) // 4
        slow = 1 + len(trial.method) / 10 + (trial.negatives or 0) / 200
        curve = tuple(
            Moment(slow * step, self.recall(trial) * (1 - 0.5 * np.exp(-step / 30)))
            for step in range(1, 101)
        )
        return Outcome(
            judged={"joint": Judged(values_R, users_R), "rank": Judged(values_R / 2, users_R)},
            seconds=100 * slow,
            requests=100_000,
            steps=100,
            curve=curve,
        )
