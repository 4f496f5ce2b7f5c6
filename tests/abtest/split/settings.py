"""Configurations of tests, as plain data with few words."""

from typing import Any

from abtest.split.config import ExperimentConfig, check_config
from abtest.split.splitter import Split, Splitter

NOON_US = 1_767_268_800 * 10**6
"""2026-01-01 12:00 UTC."""
UNITS = [f"user-{number}" for number in range(4_000)]


def experiment(key: str, **fields: object) -> dict[str, Any]:
    """A running experiment on all slots, in which each variant sets `bundle` to its name."""
    return {
        "key": key,
        "revision": 1,
        "state": "running",
        "control": "old",
        "variants": [arm("old"), arm("new")],
        **fields,
    }


def arm(name: str, weight: float = 0.5, **params: object) -> dict[str, Any]:
    return {"name": name, "weight": weight, "params": params or {"bundle": name}}


def layer(*experiments: dict[str, Any], name: str = "model", **fields: object) -> dict[str, Any]:
    return {"name": name, "seed": f"{name}-seed", "experiments": list(experiments), **fields}


def raw(*layers: dict[str, Any], **fields: object) -> dict[str, Any]:
    defaults = {"bundle": "default", "num": 20}
    return {"version": 1, "defaults": defaults, "layers": list(layers), **fields}


def config(*layers: dict[str, Any], **fields: object) -> ExperimentConfig:
    return check_config(raw(*layers, **fields))


def one(**fields: object) -> ExperimentConfig:
    """A layer with one experiment `x`."""
    return config(layer(experiment("x") | fields))


def splits(
    found: ExperimentConfig,
    *,
    now_us: int = NOON_US,
    attributes: dict[str, str] | None = None,
    kept: dict[str, str] | None = None,
) -> dict[str, Split]:
    splitter = Splitter(found)
    return {
        unit: splitter.assign(unit, now_us=now_us, attributes=attributes or {}, kept=kept or {})
        for unit in UNITS
    }


def variants(found: dict[str, Split], key: str = "x") -> dict[str, str]:
    """Variant of each unit that is in the experiment."""
    return {
        unit: given.variant
        for unit, split in found.items()
        for given in split.assignments
        if given.key == key
    }
