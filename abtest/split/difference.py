"""Difference: what distinguishes two configurations, in lines that people read."""

import json
from collections.abc import Iterator, Mapping
from typing import Final

from abtest.split.config import WHOLE, ExperimentConfig
from abtest.split.part import SLOTS

_LONGEST = 300
"""Most characters of a value in a line."""
_NAMES: Final = ("name", "key", "metric")
"""Fields by which the parts of a list are told apart."""


def differences(old: ExperimentConfig, new: ExperimentConfig) -> tuple[str, ...]:
    """What changed, one line each: `path: old -> new`; empty for equal configurations.

    A path names layers, experiments and variants, and domains where there are several. What was
    not there is `none`.
    """
    alone = all(_whole(config) for config in (old, new))
    return tuple(_compared("", _tree(old, alone), _tree(new, alone)))


def _whole(config: ExperimentConfig) -> bool:
    return [(domain.name, domain.slots) for domain in config.domains] == [(WHOLE, (0, SLOTS))]


def _tree(config: ExperimentConfig, alone: bool) -> dict[str, object]:
    raw = config.model_dump(mode="json")
    if alone:
        raw["layers"] = raw.pop("domains")[0]["layers"]
    return raw


def _compared(path: str, old: object, new: object) -> Iterator[str]:
    before, after = _parts(old), _parts(new)
    if before is None or after is None:
        if _shown(old) != _shown(new):
            yield f"{path}: {_cut(_shown(old))} -> {_cut(_shown(new))}"
        return
    for name in [*before, *(name for name in after if name not in before)]:
        inner = f"{path}.{name}" if path else name
        yield from _compared(inner, before.get(name, None), after.get(name, None))
    if isinstance(old, list):
        stayed = [name for name in before if name in after]
        moved = [name for name in after if name in before]
        if stayed != moved:
            yield f"{path}: order {', '.join(stayed)} -> {', '.join(moved)}"


def _parts(value: object) -> Mapping[str, object] | None:
    """The parts of a table, or of a list of tables by their names; None where it has none."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        for name in _NAMES:
            if all(isinstance(part, dict) and name in part for part in value):
                return {part[name]: part for part in value}
    return None


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
