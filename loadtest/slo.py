"""Service level objectives: limits on latency, failed, shed and degraded shares."""

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtest.answer import Outcome, Route
from loadtest.result import Measured, StepResult, measured, steady, total
from loadtest.step import LoadError
from loadtest.tally import Tally

Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
_LATENCIES = ("p50_ms", "p95_ms", "p99_ms")
_MEASURES: Mapping[str, Callable[[Tally], float]] = {
    "p50_ms": lambda tally: tally.latency.percentile_ms(0.50),
    "p95_ms": lambda tally: tally.latency.percentile_ms(0.95),
    "p99_ms": lambda tally: tally.latency.percentile_ms(0.99),
    "failed_share": lambda tally: tally.share(Outcome.FAILED),
    "shed_share": lambda tally: tally.share(Outcome.SHED),
    "degraded_share": lambda tally: tally.share(Outcome.DEGRADED),
}


class Objective(BaseModel):
    """What must hold for a route, at a rate or over the whole test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    route: Route = Route.RECOMMEND
    at_rate_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Measured at the lowest constant arrival rate of the test that is no lower than this."""
    p50_ms: Milliseconds | None = None
    p95_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    failed_share: Share | None = None
    shed_share: Share | None = None
    degraded_share: Share | None = None

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set."""
        given = {measure: getattr(self, measure) for measure in _MEASURES}
        return {measure: limit for measure, limit in given.items() if limit is not None}

    @model_validator(mode="after")
    def _check(self) -> "Objective":
        if not self.limits:
            raise ValueError(f"{self.name!r} sets no limit; set one of {list(_MEASURES)}")
        if self.at_rate_per_s is None and any(name in self.limits for name in _LATENCIES):
            raise ValueError(
                f"{self.name!r} limits latency without at_rate_per_s; a latency holds at a load"
            )
        return self


class Objectives(BaseModel):
    """An `slo.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)]


class Check(NamedTuple):
    """One limit against what was measured."""

    objective: str
    measure: str
    limit: float
    measured: float
    """NaN where nothing was."""
    where: str
    """The rate it was measured at, or why it could not be."""

    @property
    def met(self) -> bool:
        """Whether it was measured and is within the limit."""
        return self.measured <= self.limit


def read_objectives(path: Path) -> tuple[Objective, ...]:
    """The objectives of a file.

    Raises:
        LoadError: there is no such file, or it breaks a rule; names file, field, value and rule.
    """
    if not path.is_file():
        raise LoadError(f"{path} does not exist; write one as docs/loadtest.md shows")
    try:
        return Objectives.model_validate(tomllib.loads(path.read_text("utf-8"))).objectives
    except tomllib.TOMLDecodeError as error:
        raise LoadError(f"{path} is no TOML: {error}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(str(part) for part in fault["loc"])
        more = f", and {error.error_count() - 1} more" if error.error_count() > 1 else ""
        value = "" if isinstance(fault["input"], dict) else f" = {fault['input']!r}"
        raise LoadError(f"{path}: {field}{value}: {fault['msg']}{more}") from error


def check(objectives: Sequence[Objective], results: Sequence[StepResult]) -> list[Check]:
    """Every limit of every objective against the results."""
    found = []
    for objective in objectives:
        tally, where = _measured(objective, results)
        for measure, limit in objective.limits.items():
            value = _MEASURES[measure](tally) if tally.requests else math.nan
            found.append(Check(objective.name, measure, limit, value, where))
    return found


def _measured(objective: Objective, results: Sequence[StepResult]) -> tuple[Tally, str]:
    rate = objective.at_rate_per_s
    if rate is None:
        chosen, where = measured(results), "the whole test"
    else:
        reached = [one for one in steady(results) if one.phase.start >= rate]
        if not reached:
            return Tally(), f"not measured: no constant rate of {rate:g}/s or more was offered"
        lowest = reached[0].phase.start
        chosen = [one for one in reached if one.phase.start == lowest]
        where = f"{lowest:.0f}/s{_doubt(chosen)}"
    tally = total(one.tally.routes[objective.route] for one in chosen)
    return tally, where if tally.requests else f"not measured: no {objective.route} was sent"


def _doubt(chosen: Sequence[Measured]) -> str:
    return ", generator late" if any(one.generator_bound for one in chosen) else ""
