"""Arena of a shop: trained on its trips, judged by what the next ones bought.

Legend: R judged requests.
"""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from training.answers import NUM, answers, availability, plain_arrays
from training.checkpoint import METRICS, Validation
from training.config import OWN_LISTS, TrainConfig
from training.data.dataset import PreparedDataset, Split
from training.evaluation import load_run
from training.folder import DivergenceError
from training.leaderboard.arena import SWEPT, Diverged, Judged, Measure, Outcome
from training.leaderboard.method import BenchmarkError
from training.leaderboard.trial import Moment, Trial
from training.losses.config import LossName
from training.metrics import hits
from training.trainer import Progress, train

Float64 = NDArray[np.float64]


class ShopArena:
    """A prepared dataset, and the configuration that all methods share."""

    name = "shop"
    curve_title = f"recall@{NUM} on validation"
    measures = (
        Measure(key="recall", title=f"recall@{NUM}", table="Measures"),
        Measure(key="revenue", title=f"revenue@{NUM}, share of all money", table="Measures"),
    )

    def __init__(self, dataset: PreparedDataset, shared: TrainConfig) -> None:
        """Compare on a dataset.

        Args:
            dataset: whose validation chooses, and whose test is looked at once.
            shared: what all trials have in common.

        Raises:
            BenchmarkError: a period has no requests.
        """
        for split in Split:
            if len(dataset.requests(split)) == 0:
                raise BenchmarkError(
                    f"{dataset.path}: no requests in the {split} period; lower test_days or "
                    "validation_days under [split] and prepare the data again"
                )
        self._dataset, self._shared = dataset, shared
        self.losses = get_args(LossName) if shared.candidates.shared else OWN_LISTS
        self.dataset, self.fingerprint = dataset.meta.name, dataset.meta.fingerprint

    @property
    def description(self) -> tuple[str, ...]:
        """How much data, what is trained, what is judged on what."""
        counts = {split: len(self._dataset.requests(split)) for split in Split}
        trained = min(counts[Split.TRAIN], self._shared.train_requests)
        epochs = self._shared.epochs
        changed = self._shared.model_dump(
            exclude={*SWEPT, "candidates", "epochs", "train_requests"}, exclude_defaults=True
        )
        others = "".join(f"; {key} = {value}" for key, value in changed.items())
        return (
            f"{trained:,} requests to train on, {epochs} {'epoch' if epochs == 1 else 'epochs'}; "
            f"settings are chosen on validation ({counts[Split.VALIDATION]:,} requests), finals "
            f"are judged on the test ({counts[Split.TEST]:,} requests){others}.",
            "Both stages are trained on one list of candidates, as the published losses have it."
            if self._shared.candidates.shared
            else "Each stage is trained on what it meets when it serves.",
        )

    def config(self, trial: Trial) -> TrainConfig:
        """Everything a trial depends on beside the data."""
        return self._shared.model_copy(
            update={
                "loss": trial.loss,
                "learning_rate": trial.learning_rate,
                "seed": trial.seed,
                "name": trial.method.replace("_", "-"),
            }
        )

    def run(self, trial: Trial, folder: Path, advance: Callable[[int, int], None]) -> Outcome:
        """Train and judge.

        Raises:
            Diverged: the loss is not finite.
        """
        config = self.config(trial)
        seen = 0

        def step(progress: Progress) -> None:
            nonlocal seen
            seen += progress.requests
            advance(progress.step, progress.steps)

        try:
            found = train(self._dataset, config, folder, progress=step)
        except DivergenceError as error:
            raise Diverged(str(error)) from error
        lines = (folder / METRICS).read_text().splitlines()
        validations = [Validation.model_validate_json(line) for line in lines]
        return Outcome(
            judged=self._judge(trial, config, folder),
            seconds=found.seconds,
            requests=seen,
            steps=found.step,
            curve=tuple(Moment(line.seconds, line.recall) for line in validations),
        )

    def _judge(self, trial: Trial, config: TrainConfig, folder: Path) -> dict[str, Judged]:
        arrays = plain_arrays(self._dataset)
        requests = self._dataset.requests(Split(trial.period))
        _, cascade = load_run(folder, self._dataset)
        found = answers(cascade, arrays, requests, config, availability(self._dataset))
        hit = hits(arrays, requests, np.concatenate([answer.rows_BK for answer in found]))
        users_R = arrays.request_user[requests]
        money_R, bought_R = hit.revenue_micros_B / 1e6, hit.bought_micros_B / 1e6
        return {
            "recall": Judged(hit.recall_B, users_R),
            "revenue": Judged(linear_shares(money_R, bought_R), users_R),
        }


def linear_shares(amounts_R: Float64, bases_R: Float64) -> Float64:
    """What each request contributes to `sum(amounts) / sum(bases)`, as numbers whose mean it is.

    Linearised, so that their differences and spread are those of the ratio (Cochran 1977, 6.4).
    """
    if not bases_R.sum():
        return np.zeros_like(amounts_R)
    share = amounts_R.sum() / bases_R.sum()
    linear_R: Float64 = share + (amounts_R - share * bases_R) / bases_R.mean()
    return linear_R
