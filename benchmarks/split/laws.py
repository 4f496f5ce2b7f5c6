"""Laws: layers are independent, shares are met, a ramp moves nobody."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, chisquare

from abtest.split.change import ramp
from abtest.split.config import ExperimentConfig, check_config
from abtest.split.splitter import Splitter

Choices = npt.NDArray[np.int64]
"""Index of each unit's variant in each layer, -1 where it has none; [units, layers]."""
ARMS = ("a", "b", "c")
WEIGHTS = (0.2, 0.3, 0.5)


class Independence(NamedTuple):
    """Chi-squared tests of all pairs of layers."""

    layers: int
    units: int
    pairs: int
    rejected: int
    """Pairs whose independence is rejected at p < .01; one in a hundred by chance."""
    smallest: float
    """Smallest p-value."""


class Shares(NamedTuple):
    """Chi-squared tests of the variants' shares, layer by layer."""

    layers: int
    units: int
    rejected: int
    """At p < .01."""
    smallest: float


class Ramp(NamedTuple):
    """Steps of a ramp, and who moved."""

    steps: tuple[float, ...]
    units: int
    inside: tuple[int, ...]
    """Units in the experiment at each step."""
    moved: int
    """Units that left it or changed their variant at any step."""


def layered(layers: int, slots: tuple[int, int] = (0, 10_000)) -> ExperimentConfig:
    """An experiment with three arms of unequal weights in each layer."""
    variants = [
        {"name": name, "weight": weight} for name, weight in zip(ARMS, WEIGHTS, strict=True)
    ]
    raw: dict[str, Any] = {
        "version": 1,
        "defaults": {},
        "layers": [
            {
                "name": f"layer-{number}",
                "seed": f"seed-{number}",
                "experiments": [
                    {
                        "key": f"x-{number}",
                        "revision": 1,
                        "state": "running",
                        "control": "a",
                        "slots": slots,
                        "variants": variants,
                    }
                ],
            }
            for number in range(layers)
        ],
    }
    return check_config(raw)


def choose(config: ExperimentConfig, units: int) -> Choices:
    """Split numbered units."""
    splitter = Splitter(config)
    columns = {
        layer.name: column
        for column, layer in enumerate(
            layer for domain in config.domains for layer in domain.layers
        )
    }
    chosen = np.full((units, len(columns)), -1, dtype=np.int64)
    for unit in range(units):
        for given in splitter.assign(f"user-{unit}", now_us=0).assignments:
            chosen[unit, columns[given.layer]] = ARMS.index(given.variant)
    return chosen


def independence(chosen: Choices) -> Independence:
    """Test all pairs of layers; being in no experiment counts like a variant.

    Pearson's chi-squared of each pair's table, all tables from one product of matrices.
    """
    units, layers = chosen.shape
    levels = np.unique(chosen)
    marked = (chosen[:, :, None] == levels).astype(np.float32)
    flat = marked.reshape(units, -1)
    observed = (flat.T @ flat).reshape(layers, len(levels), layers, len(levels))
    counts = marked.sum(axis=0, dtype=np.float64)
    expected = np.einsum("ai,bj->aibj", counts, counts) / units
    statistics = ((observed - expected) ** 2 / expected).sum(axis=(1, 3))
    pairs = statistics[np.triu_indices(layers, 1)]
    pvalues = chi2.sf(pairs, (len(levels) - 1) ** 2)
    rejected = int((pvalues < 0.01).sum())
    return Independence(layers, units, len(pvalues), rejected, float(pvalues.min()))


def shares(chosen: Choices) -> Shares:
    """Test the shares of each layer's variants among those who have one."""
    pvalues = []
    for column in chosen.T:
        counts = np.bincount(column[column >= 0], minlength=3)
        expected = counts.sum() * np.asarray(WEIGHTS)
        pvalues.append(float(chisquare(counts, expected).pvalue))
    rejected = sum(pvalue < 0.01 for pvalue in pvalues)
    return Shares(chosen.shape[1], chosen.shape[0], rejected, min(pvalues))


def ramped(steps: tuple[float, ...], units: int) -> Ramp:
    """Ramp an experiment from a hundredth in steps, and follow every unit."""
    config = layered(1, (0, 100))
    before = choose(config, units)
    inside, moved = [int((before >= 0).sum())], 0
    for share in steps:
        config = ramp(config, "x-0", share)
        after = choose(config, units)
        moved += int(((before >= 0) & (before != after)).sum())
        inside.append(int((after >= 0).sum()))
        before = after
    return Ramp((0.01, *steps), units, tuple(inside), moved)
