"""Ledger: the trials of a leaderboard on disk, each run once.

A trial lives in a folder named by the hash of its configuration. `result.json` is written last and
in one piece: with it the trial is done and never run again, without it the trial counts for nothing
and is run anew.

Legend: R judged requests, M runs.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from training.durable import write_file
from training.leaderboard.arena import Arena, Diverged, Outcome
from training.leaderboard.method import BenchmarkError
from training.leaderboard.trial import FORMAT, Result, Trial
from training.recflow.environment import environment

TRIALS = "trials"
RESULT = "result.json"
VALUES = "values.npz"
RUN = "run"
_USERS = " users"

Float64 = NDArray[np.float64]


class Ledger:
    """Results of an arena's trials, under one folder."""

    def __init__(self, folder: Path, arena: Arena) -> None:
        """Open a ledger, or start one.

        Raises:
            BenchmarkError: a result in the folder is damaged, of another dataset, or of another
                format.
        """
        self.arena = arena
        self._folder = folder / TRIALS
        self._environment = environment(_device(), processes=1)
        self._keys: dict[Trial, str] = {}
        self._results: dict[str, Result] = {}
        for path in sorted(self._folder.glob(f"*/{RESULT}")):
            self._results[path.parent.name] = self._read(path)

    def key(self, trial: Trial) -> str:
        """Name of a trial's folder: 16 hexadecimal digits of the hash of its configuration."""
        if trial not in self._keys:
            whole = {
                "arena": self.arena.name,
                "period": trial.period,
                "config": self.arena.config(trial).model_dump(mode="json", exclude={"name"}),
            }
            text = json.dumps(whole, sort_keys=True)
            self._keys[trial] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._keys[trial]

    def find(self, trial: Trial) -> Result | None:
        """Its result, None where it has not been run to its end."""
        return self._results.get(self.key(trial))

    def results(self) -> tuple[Result, ...]:
        """All that there are, of other configurations too."""
        return tuple(self._results.values())

    def values(self, trials: Sequence[Trial], measure: str) -> tuple[Float64, NDArray[np.int64]]:
        """Values request by request of finished trials that were judged on the test.

        Returns:
            float [M, R], a row a trial, and the requests' users, int [R].

        Raises:
            BenchmarkError: a file of values is missing or damaged.
        """
        rows, users_R = [], np.empty(0, dtype=np.int64)
        for trial in trials:
            path = self._folder / self.key(trial) / VALUES
            try:
                with np.load(path) as arrays:
                    rows.append(arrays[measure].astype(np.float64))
                    users_R = arrays[measure + _USERS]
            except Exception as error:  # whatever unzipping a damaged file raises
                raise BenchmarkError(
                    f"{path} is missing or damaged; remove the folder {path.parent} and run the "
                    "benchmark again"
                ) from error
        return np.stack(rows), users_R

    def run(self, trial: Trial, advance: Callable[[int, int], None]) -> Result:
        """Run a trial to its end and write its result."""
        folder = self._folder / self.key(trial)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        started = time.perf_counter()
        try:
            outcome = self.arena.run(trial, folder / RUN, advance)
            result = self._result(trial, outcome, time.perf_counter() - started)
            if trial.period == "test":
                _write_values(folder / VALUES, outcome)
        except Diverged as error:
            result = self._failure(trial, str(error), time.perf_counter() - started)
        # Weights of tens of trials would fill a disk; the configuration makes them again.
        shutil.rmtree(folder / RUN, ignore_errors=True)
        write_file(folder / RESULT, (result.model_dump_json(indent=1) + "\n").encode())
        self._results[folder.name] = result
        return result

    def _result(self, trial: Trial, outcome: Outcome, wall_seconds: float) -> Result:
        scores = {name: float(one.values_R.mean()) for name, one in outcome.judged.items()}
        return Result(
            fingerprint=self.arena.fingerprint,
            trial=trial,
            config=self._config(trial),
            scores=scores,
            score=scores[self.arena.measures[0].key],
            failed=None,
            seconds=outcome.seconds,
            requests=outcome.requests,
            step_ms=1e3 * outcome.seconds / max(outcome.steps, 1),
            curve=outcome.curve,
            wall_seconds=wall_seconds,
            environment=self._environment,
        )

    def _failure(self, trial: Trial, why: str, wall_seconds: float) -> Result:
        return Result(
            fingerprint=self.arena.fingerprint,
            trial=trial,
            config=self._config(trial),
            scores={},
            score=0.0,
            failed=why,
            seconds=0.0,
            requests=0,
            step_ms=0.0,
            curve=(),
            wall_seconds=wall_seconds,
            environment=self._environment,
        )

    def _config(self, trial: Trial) -> dict[str, Any]:
        return self.arena.config(trial).model_dump(mode="json")

    def _read(self, path: Path) -> Result:
        try:
            raw = json.loads(path.read_bytes())
            found = raw["format"]
            if found != FORMAT:
                raise BenchmarkError(
                    f"{path} has format {found}, this version writes {FORMAT}; choose another "
                    "--out, or remove that folder"
                )
            result = Result.model_validate(raw)
        except (json.JSONDecodeError, KeyError, TypeError, ValidationError) as error:
            raise BenchmarkError(
                f"{path} is damaged; remove the folder {path.parent} and run the benchmark again"
            ) from error
        if result.fingerprint != self.arena.fingerprint:
            raise BenchmarkError(
                f"{path} is a result on data {result.fingerprint[:12]}, the data given is "
                f"{self.arena.dataset} {self.arena.fingerprint[:12]}; give the same --data, or "
                "choose another --out"
            )
        return result


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _write_values(path: Path, outcome: Outcome) -> None:
    arrays: dict[str, NDArray[Any]] = {}
    for name, (values_R, users_R) in outcome.judged.items():
        arrays[name] = values_R.astype(np.float32)
        arrays[name + _USERS] = users_R.astype(np.int32)
    buffer = BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_file(path, buffer.getvalue())
