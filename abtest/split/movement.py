"""Movement: which units a change of the configuration moves, before it is made."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from abtest.split.splitter import Split, Splitter

EXAMPLES = 5
"""Most units named of a move."""


@dataclass(frozen=True)
class Move:
    """Units that leave, enter or change their variant of an experiment."""

    layer: str
    key: str
    before: str | None
    """Their variant; None where they were not in the experiment."""
    after: str | None
    units: int
    examples: tuple[str, ...]
    """The first of them, at most five."""


@dataclass(frozen=True)
class Movement:
    """What a change means for the units that were looked at."""

    units: int
    changed: int
    """Of them, those who get other parameters."""
    moves: tuple[Move, ...]
    """By layer, experiment and variants, in the order of the names."""


def moved(
    old: Splitter,
    new: Splitter,
    units: Iterable[str],
    now_us: int,
    attributes: Mapping[str, str] = {},
) -> Movement:
    """Split units by both configurations, and tell the difference.

    Args:
        old: in force.
        new: instead.
        units: to look at.
        now_us: the time, microseconds since the Unix epoch.
        attributes: context that all units are taken to have; without it, experiments with
            conditions on it look empty. Kept variants of sticky experiments are not known here.
    """
    found: dict[tuple[str, str, str | None, str | None], list[str]] = {}
    seen = changed = 0
    for unit in units:
        before = old.assign(unit, now_us=now_us, attributes=attributes)
        after = new.assign(unit, now_us=now_us, attributes=attributes)
        seen += 1
        # A parameter that is declared anew had its default all the time.
        had = {**new.config.defaults, **before.params}
        changed += any(had[name] != value for name, value in after.params.items())
        was, now = _variants(before), _variants(after)
        for place in {**was, **now}:
            if was.get(place) != now.get(place):
                found.setdefault((*place, was.get(place), now.get(place)), []).append(unit)
    moves = tuple(
        Move(*place, units=len(names), examples=tuple(names[:EXAMPLES]))
        for place, names in sorted(found.items(), key=lambda item: tuple(map(str, item[0])))
    )
    return Movement(seen, changed, moves)


def _variants(split: Split) -> dict[tuple[str, str], str]:
    return {(given.layer, given.key): given.variant for given in split.assignments}
