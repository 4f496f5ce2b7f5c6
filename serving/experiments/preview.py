"""Preview: which units a change moves, worked out while requests are answered."""

import asyncio
from collections.abc import Mapping, Sequence

from abtest.split.movement import EXAMPLES, Move, Movement, moved
from abtest.split.splitter import Splitter

SAMPLE: Sequence[str] = tuple(f"sample-{number}" for number in range(10_000))
"""Made-up units. Units are split by hashes, so these move like as many others."""
SLICE = 100
"""Units between two turns of the event loop: a few milliseconds, even of many experiments."""


async def preview(
    old: Splitter,
    new: Splitter,
    units: Sequence[str],
    now_us: int,
    attributes: Mapping[str, str],
) -> Movement:
    """What `moved` tells, without holding the event loop.

    Args:
        old: in force.
        new: instead.
        units: to look at.
        now_us: the time, microseconds since the Unix epoch.
        attributes: context that all units are taken to have.
    """
    total = Movement(0, 0, ())
    for first in range(0, len(units), SLICE):
        total = _sum(total, moved(old, new, units[first : first + SLICE], now_us, attributes))
        await asyncio.sleep(0)
    return total


def _sum(one: Movement, other: Movement) -> Movement:
    moves: dict[tuple[str, str, str | None, str | None], Move] = {}
    for move in (*one.moves, *other.moves):
        place = (move.layer, move.key, move.before, move.after)
        units, examples = move.units, move.examples
        if place in moves:
            units += moves[place].units
            examples = (*moves[place].examples, *examples)[:EXAMPLES]
        moves[place] = Move(*place, units=units, examples=examples)
    ordered = sorted(moves.items(), key=lambda item: tuple(map(str, item[0])))
    return Movement(
        one.units + other.units, one.changed + other.changed, tuple(move for _, move in ordered)
    )
