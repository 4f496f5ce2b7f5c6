"""Interleaving: one answer out of two, so that the same user chooses between both.

Team draft (Radlinski, Kurup and Joachims 2008, *How Does Clickthrough Data Reflect Retrieval
Quality?*): both sides pick in rounds, in each round a coin says which of them picks first, and each
pick is the best of the side's items that nobody has picked. What is taken of an item is credited to
the side that picked it. Compared within one user, few users tell what a split needs many for.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from abtest.events import StageTrace
from serving.cascade.admission import OverloadedError
from serving.cascade.deadline import Deadline
from serving.cascade.ladder import Rung
from serving.cascade.line import Line
from serving.cascade.query import Outcome, Query

NOT_INTERLEAVED = "not_interleaved"
"""One of two bundles gave no answer; this is the other's, and no position is credited."""
NOT_CREDITED = "not_credited"
"""One of two bundles answered on a lower rung of the ladder: no position is credited, because what
is taken would tell of the load and not of the bundles."""
NOBODY = ""
"""Credited with positions that only one side was able to fill: they say nothing of the other."""
SECOND = "second."
"""Before the names of the second bundle's stages and steps."""


_RUNGS = frozenset(reason for rung in Rung for reason in rung.reason)

logger = logging.getLogger(__name__)


class Ordered(NamedTuple):
    """The items of an answer, and where they come from."""

    outcome: Outcome
    teams: tuple[str, ...]
    """The served name that each position is credited to; empty where nothing was interleaved."""
    by: tuple[tuple[str, Outcome], ...]
    """The served names that gave it, and each one's own outcome."""


class Pick(NamedTuple):
    """A position of the interleaved answer."""

    side: int
    """0 or 1."""
    place: int
    """Place of the item in that side's own list."""
    credited: bool
    """Whether both sides had something to pick."""


async def order(lines: Mapping[str, Line], query: Query, deadline: Deadline) -> Ordered:
    """Answer a query from the bundle of its policy, or from two of them together.

    Args:
        lines: by served name.
        query: its policy names the bundles.
        deadline: of the answer.

    Raises:
        OverloadedError: the deadline passed.
    """
    names = (query.policy.bundle, query.policy.interleave_with)
    if not names[1] or names[0] == names[1]:
        outcome = await lines[names[0]].answer(query, deadline)
        return Ordered(outcome, (), ((names[0], outcome),))
    found = await asyncio.gather(
        *(lines[name].answer(query, deadline) for name in names), return_exceptions=True
    )
    by = []
    for name, outcome_or_error in zip(names, found, strict=True):
        if isinstance(outcome_or_error, Outcome):
            by.append((name, outcome_or_error))
        elif not isinstance(outcome_or_error, OverloadedError):
            logger.warning("%s: %r", name, outcome_or_error)
    if not by:
        raise next(error for error in found if isinstance(error, BaseException))
    if len(by) == 1:
        [(_, outcome)] = by
        degraded = (*outcome.degraded, NOT_INTERLEAVED)
        return Ordered(outcome._replace(degraded=degraded), (), tuple(by))
    rng = Random(f"team draft {query.request_id}")
    outcome, teams = interleaved(by[0][1], by[1][1], names, query.num, rng)
    if _rung(by[0][1]) != _rung(by[1][1]):
        degraded = (*outcome.degraded, NOT_CREDITED)
        return Ordered(outcome._replace(degraded=degraded), (), tuple(by))
    return Ordered(outcome, teams, tuple(by))


def team_draft(lists: tuple[Sequence[str], Sequence[str]], num: int, rng: Random) -> list[Pick]:
    """Draft `num` distinct items from two lists, each in its order and without repetition.

    Once a side has nothing left to pick, the rest is the other's, and credited to nobody.

    >>> [pick.side for pick in team_draft((["a", "b"], ["c", "d"]), 4, Random(1))]
    [0, 1, 1, 0]
    """
    taken: set[str] = set()
    picks: list[Pick] = []
    places = [0, 0]
    while len(picks) < num:
        first = rng.getrandbits(1)
        turns = [_next(lists[side], places[side], taken) for side in (first, 1 - first)]
        if None in turns:
            break
        for side in (first, 1 - first):
            place = _next(lists[side], places[side], taken)
            if place is None:  # the other side has just taken its last
                break
            picks.append(Pick(side, place, credited=True))
            taken.add(lists[side][place])
            places[side] = place + 1
    for side in (0, 1):
        while (place := _next(lists[side], places[side], taken)) is not None:
            picks.append(Pick(side, place, credited=False))
            taken.add(lists[side][place])
            places[side] = place + 1
    return picks[:num]


def interleaved(
    first: Outcome, second: Outcome, names: tuple[str, str], num: int, rng: Random
) -> tuple[Outcome, tuple[str, ...]]:
    """Two outcomes of one request as one, and the served name each position is credited to."""
    sides = (first, second)
    picks = team_draft((first.item_ids, second.item_ids), num, rng)
    explained = None
    if first.explanations is not None and second.explanations is not None:
        both = (first.explanations, second.explanations)
        explained = tuple(both[pick.side][pick.place] for pick in picks)
    outcome = Outcome(
        item_ids=tuple(sides[pick.side].item_ids[pick.place] for pick in picks),
        scores=tuple(sides[pick.side].scores[pick.place] for pick in picks),
        stages=first.stages + _renamed(second.stages),
        latency_us={**first.latency_us, **_of_second(second.latency_us)},
        degraded=tuple(dict.fromkeys(first.degraded + second.degraded)),
        explanations=explained,
    )
    return outcome, tuple(names[pick.side] if pick.credited else NOBODY for pick in picks)


def _rung(outcome: Outcome) -> frozenset[str]:
    return _RUNGS.intersection(outcome.degraded)


def _next(items: Sequence[str], place: int, taken: set[str]) -> int | None:
    """The first place from `place` on whose item is free; None if there is none."""
    return next((n for n in range(place, len(items)) if items[n] not in taken), None)


def _renamed(stages: tuple[StageTrace, ...]) -> tuple[StageTrace, ...]:
    return tuple(stage.model_copy(update={"name": f"{SECOND}{stage.name}"}) for stage in stages)


def _of_second(latency_us: Mapping[str, int]) -> dict[str, int]:
    return {f"{SECOND}{step}": spent_us for step, spent_us in latency_us.items()}
