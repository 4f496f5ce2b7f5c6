"""Arena of RecFlow: trained on the days until one, judged on the day after.

Legend: R judged requests, S stages.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from training.folder import DivergenceError
from training.leaderboard.arena import SWEPT, Diverged, Judged, Measure, Outcome
from training.leaderboard.method import BenchmarkError
from training.leaderboard.trial import Moment, Trial
from training.losses.config import LossName
from training.recflow.config import RecFlowConfig
from training.recflow.log import PreparedLog
from training.recflow.measurement import BATCH_SIZE, Measured, measure
from training.recflow.metrics import NDCG_AT, Protocol, ScoreError
from training.recflow.run import load_run, read_lines
from training.recflow.trainer import LogProgress, train

PROTOCOLS: tuple[Protocol, ...] = ("strict", "paper")
"""The first one decides."""
_LINES = 200
"""Lines of metrics a run, for a curve that can be smoothed."""


class RecFlowArena:
    """A prepared log, and the configuration that all methods share."""

    name = "recflow"
    losses = get_args(LossName)
    curve_title = "joint recall of each training batch before it was learnt from"

    def __init__(self, log: PreparedLog, shared: RecFlowConfig) -> None:
        """Choose the days.

        Args:
            log: at least three days.
            shared: what all trials have in common. The finals train until its `last_train_day`, and
                until the last day but one if it names none; the sweeps a day less.

        Raises:
            BenchmarkError: there are too few days.
        """
        days, last = log.meta.days, shared.last_train_day
        if last is not None and last not in days:
            raise BenchmarkError(
                f"last_train_day = {last!r} is no day of {log.path}; it has {days[0]} to {days[-1]}"
            )
        place = len(days) - 2 if last is None else days.index(last)
        if not 1 <= place < len(days) - 1:
            raise BenchmarkError(
                f"training until {days[max(place, 0)]} leaves no day before it or after it in "
                f"{log.path}, which has {len(days)}; three in a row are needed, one to train on, "
                "one to choose settings by, one for the test"
            )
        self._log, self._shared = log, shared
        self._train_until = {"validation": days[place - 1], "test": days[place]}
        self._judge_on = {"validation": days[place], "test": days[place + 1]}
        self.dataset, self.fingerprint = log.meta.name, log.meta.fingerprint
        self.measures = tuple(self._measures())

    @property
    def description(self) -> tuple[str, ...]:
        """How much data, what is trained, what is judged on what."""
        days = self._log.meta.days
        counts = dict(zip(days, self._log.meta.requests, strict=True))
        trained = sum(n for day, n in counts.items() if day <= self._train_until["test"])
        stages = ", ".join(f"{s.name} ({s.model}, keeps {s.keep})" for s in self._shared.stages)
        changed = self._shared.model_dump(
            exclude={*SWEPT, "stages", "batch_size", "negatives", "last_train_day"},
            exclude_defaults=True,
        )
        others = ", ".join(f"{key} = {value}" for key, value in changed.items())
        return (
            f"Sweeps train until {self._train_until['validation']} and are judged on "
            f"{self._judge_on['validation']}; finals train until {self._train_until['test']} "
            f"({trained:,} requests) and are judged on {self._judge_on['test']} "
            f"({counts[self._judge_on['test']]:,} requests).",
            f"Stages: {stages}; batches of {self._shared.batch_size}, "
            f"{self._shared.negatives} sampled negatives{'; ' if others else ''}{others}.",
        )

    def config(self, trial: Trial) -> RecFlowConfig:
        """Everything a trial depends on beside the data."""
        return self._shared.model_copy(
            update={
                "loss": trial.loss,
                "learning_rate": trial.learning_rate,
                "seed": trial.seed,
                "last_train_day": self._train_until[trial.period],
                "name": trial.method.replace("_", "-"),
                "negatives": self._shared.negatives if trial.negatives is None else trial.negatives,
            }
        )

    def run(self, trial: Trial, folder: Path, advance: Callable[[int, int], None]) -> Outcome:
        """Train and judge.

        Raises:
            Diverged: the loss or a score is not finite.
        """
        config = self.config(trial)

        def step(progress: LogProgress) -> None:
            advance(progress.step, progress.steps)

        try:
            found = train(
                self._log, config, folder, progress=step,
                metrics_steps=self._metrics_steps(config),
            )  # fmt: skip
            judged = dict(self._judge(config, folder, trial))
        except (DivergenceError, ScoreError) as error:
            raise Diverged(str(error)) from error
        lines = read_lines(folder)
        return Outcome(
            judged=judged,
            seconds=found.seconds,
            requests=found.requests,
            steps=found.steps,
            curve=tuple(
                Moment(line.seconds, line.recall) for line in lines if line.recall is not None
            ),
        )

    def _judge(self, config: RecFlowConfig, folder: Path, trial: Trial) -> Iterator[Any]:
        day = self._judge_on[trial.period]
        requests = self._log.meta.requests[self._log.meta.days.index(day)]
        _, cascade = load_run(folder, self._log)
        for protocol in PROTOCOLS if trial.period == "test" else PROTOCOLS[:1]:
            measured = measure(
                cascade, self._log, config, day, protocol, batch_size=min(BATCH_SIZE, requests)
            )
            yield from _judged(config, protocol, measured).items()

    def _metrics_steps(self, config: RecFlowConfig) -> int:
        days = self._log.meta.days
        until = days.index(config.last_train_day or days[-2]) + 1
        requests = sum(self._log.meta.requests[:until]) * config.epochs
        return max(1, requests // config.batch_size // _LINES)

    def _measures(self) -> Iterator[Measure]:
        at = self._shared.truth
        keep = self._shared.stages[-1].keep
        for protocol in PROTOCOLS:
            title = f"{protocol} joint recall@{at}@{keep}"
            yield Measure(key=f"{protocol}.joint", title=title, table=f"{protocol} protocol")
            for stage in self._shared.stages:
                for kind, name in (
                    ("recall", f"recall@{at}@{stage.keep}"),
                    ("ndcg", f"NDCG@{NDCG_AT}"),
                ):
                    yield Measure(
                        key=f"{protocol}.{stage.name}.{kind}",
                        title=f"{stage.name} {name}",
                        table=f"{protocol} protocol",
                    )


def _judged(config: RecFlowConfig, protocol: str, measured: Measured) -> dict[str, Judged]:
    users_R = measured.users_R
    found = {f"{protocol}.joint": Judged(measured.joint_recall_R, users_R)}
    for place, stage in enumerate(config.stages):
        found[f"{protocol}.{stage.name}.recall"] = Judged(measured.recall_SR[place], users_R)
        found[f"{protocol}.{stage.name}.ndcg"] = Judged(measured.ndcg_SR[place], users_R)
    return found
