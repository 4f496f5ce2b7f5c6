"""Pairs: random experiments and units, split here and by GrowthBook's package."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from growthbook import Experiment as TheirExperiment
from growthbook.common_types import (
    EvaluationContext,
    GlobalContext,
    Options,
    StackContext,
    UserContext,
)
from growthbook.core import run_experiment

from abtest.split.config import ExperimentConfig, check_config
from abtest.split.splitter import Splitter

LETTERS = "abcxyzABCXYZ0123456789-_. /:äßéÿ\u0100漢字かなעבר\U0001f600\U00020000"
NAMES = ("a", "b", "c", "d", "e", "f")


class Agreement(NamedTuple):
    """How many pairs were compared, and those that differ."""

    pairs: int
    experiments: int
    inside: int
    """Pairs in which the unit is in the experiment."""
    mismatches: tuple[str, ...]
    """The first of them, in words."""
    differing: int


class Case(NamedTuple):
    """An experiment as it is written here and there."""

    config: ExperimentConfig
    theirs: dict[str, Any]
    attribute: str
    """Where the unit stands: `user_id`, or a field of the context."""


def draw_case(rng: random.Random) -> Case:
    """A random experiment of hash version 2."""
    key = "".join(rng.choice("abcdefghij0123456789-") for _ in range(rng.randrange(1, 20)))
    key = f"x{key}"
    weights = _draw_weights(rng)
    attribute = rng.choice(("user_id", "company"))
    theirs: dict[str, Any] = {
        "key": key,
        "variations": list(range(len(weights))),
        "hashVersion": 2,
        "hashAttribute": attribute,
        "weights": weights,
    }
    ours: dict[str, Any] = {
        "key": key,
        "revision": 1,
        "state": "running",
        "control": "a",
        "variants": [
            {"name": name, "weight": weight} for name, weight in zip(NAMES, weights, strict=False)
        ],
    }
    if rng.random() < 0.2 and len(set(weights)) == 1:
        del theirs["weights"]
        ours["variants"] = [{"name": name} for name in NAMES[: len(weights)]]
    if rng.random() < 0.5:
        theirs["seed"] = ours["seed"] = _draw_text(rng)
    if rng.random() < 0.6:
        theirs["coverage"] = ours["coverage"] = _draw_share(rng)
    if rng.random() < 0.4:
        first, end = sorted((rng.random(), rng.random()))
        if rng.random() < 0.5:
            first, end = round(first, 2), round(end, 2) + 0.01
        namespace = (_draw_text(rng), first, min(end, 1.0))
        theirs["namespace"], ours["namespace"] = namespace, namespace
    layer = {"name": "l", "seed": "s", "unit": attribute, "experiments": [ours]}
    raw = {"version": 1, "hash": "gb2", "defaults": {}, "layers": [layer]}
    return Case(check_config(raw), theirs, attribute)


def _draw_weights(rng: random.Random) -> list[float]:
    count = rng.randrange(2, len(NAMES) + 1)
    if rng.random() < 0.3:
        return [1 / count for _ in range(count)]
    digits = rng.choice((2, 4, 17))
    cuts = sorted(round(rng.uniform(0.02, 0.98), digits) for _ in range(count - 1))
    weights = [end - first for first, end in zip([0.0, *cuts], [*cuts, 1.0], strict=True)]
    usable = all(weight > 0 for weight in weights) and abs(sum(weights) - 1) < 1e-9
    return weights if usable else _draw_weights(rng)


def _draw_share(rng: random.Random) -> float:
    return rng.choice((round(rng.uniform(0.01, 1), 2), rng.uniform(0.001, 1), 1.0))


def _draw_text(rng: random.Random) -> str:
    return "".join(rng.choice(LETTERS) for _ in range(rng.randrange(1, 24)))


def _draw_unit(rng: random.Random) -> str:
    if rng.random() < 0.02:
        return ""
    return str(rng.randrange(10**9)) if rng.random() < 0.3 else _draw_text(rng)


def theirs_of(case: Case, unit: str) -> str | None:
    """The variant that GrowthBook's package gives; None where it leaves the unit out."""
    context = EvaluationContext(
        user=UserContext(attributes={case.attribute: unit}),
        global_ctx=GlobalContext(options=Options()),
        stack=StackContext(),
    )
    result = run_experiment(TheirExperiment(**case.theirs), evalContext=context)
    return NAMES[result.variationId] if result.inExperiment else None


def ours_of(case: Case, splitter: Splitter, unit: str) -> str | None:
    """The variant that the splitter gives."""
    user, context = (unit, {}) if case.attribute == "user_id" else ("u", {"company": unit})
    assignments = splitter.assign(user, now_us=0, attributes=context).assignments
    return assignments[0].variant if assignments else None


def compare(
    pairs: int, seed: int, units: int = 100, tick: Callable[[int], object] = lambda _: None
) -> Agreement:
    """Split random units of random experiments both ways.

    Args:
        pairs: to compare; a multiple of `units`.
        seed: of everything drawn.
        units: of each experiment.
        tick: told the number of pairs just compared.
    """
    rng = random.Random(seed)
    differing = inside = 0
    found: list[str] = []
    for _ in range(pairs // units):
        case = draw_case(rng)
        splitter = Splitter(case.config)
        for _ in range(units):
            unit = _draw_unit(rng)
            here, there = ours_of(case, splitter, unit), theirs_of(case, unit)
            inside += here is not None
            if here != there:
                differing += 1
                found.append(f"{case.theirs} {unit!r}: {here} here, {there} there")
        tick(units)
    return Agreement(pairs // units * units, pairs // units, inside, tuple(found[:10]), differing)
