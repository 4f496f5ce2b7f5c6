"""Team draft by its law, and the answer of two bundles whatever becomes of one of them."""

import asyncio
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abtest.events import StageTrace
from serving.cascade.admission import OverloadedError
from serving.cascade.deadline import Deadline
from serving.cascade.interleave import (
    NOBODY,
    NOT_CREDITED,
    NOT_INTERLEAVED,
    Ordered,
    interleaved,
    order,
    team_draft,
)
from serving.cascade.policy import Policy
from serving.cascade.query import Explanation, Outcome, Query
from tests.serving.bundles.candidates import query

lists = st.lists(st.sampled_from([f"i{n}" for n in range(12)]), unique=True, max_size=12)
seeds = st.integers(0, 2**32 - 1)


@given(lists, lists, st.integers(1, 15), seeds)
def test_draft_is_one_by_rounds(a: list[str], b: list[str], num: int, seed: int) -> None:
    picks = team_draft((a, b), num, Random(seed))
    sides = (a, b)
    items = [sides[pick.side][pick.place] for pick in picks]
    assert len(items) == min(num, len({*a, *b}))
    assert len(set(items)) == len(items)
    taken: set[str] = set()
    for pick, item in zip(picks, items, strict=True):
        free = [other for other in sides[pick.side] if other not in taken]
        assert item == free[0]  # the best of the side's that nobody has
        taken.add(item)
    credited = [pick.side for pick in picks if pick.credited]
    assert [pick.credited for pick in picks] == sorted(
        (pick.credited for pick in picks), reverse=True
    )
    for one, other in zip(credited[::2], credited[1::2], strict=False):
        assert {one, other} == {0, 1}  # each round, each side once
    rest = {pick.side for pick in picks if not pick.credited}
    assert len(rest) <= 1  # once a side has nothing left, the rest is the other's


def test_equal_lists_are_credited_equally_at_every_place() -> None:
    items = [f"i{n}" for n in range(6)]
    n = 4000
    counts = Counter[tuple[int, int]]()
    for seed in range(n):
        picks = team_draft((items, items), 6, Random(f"{seed}"))
        assert [pick.place for pick in picks] == list(range(6))
        counts.update((place, pick.side) for place, pick in enumerate(picks))
    for place in range(6):
        # Four standard deviations of a fair coin.
        assert abs(counts[place, 0] - n / 2) < 4 * (n / 4) ** 0.5


def test_a_better_list_is_preferred_and_position_is_not() -> None:
    """Whoever has the one item that is taken gets the credit, though both have the rest."""
    best, worse = ["x", "a", "b"], ["a", "b", "x"]
    credit = Counter[int]()
    for seed in range(2000):
        picks = team_draft((best, worse), 3, Random(f"{seed}"))
        names = [(best, worse)[pick.side][pick.place] for pick in picks]
        credit[picks[names.index("x")].side] += 1
    assert credit[0] == 2000
    drawn = team_draft((["x"], ["x"]), 1, Random(0))
    assert len(drawn) == 1


def outcome(items: str, *degraded: str, explained: bool = False) -> Outcome:
    stage = StageTrace(name="rank", n_in=9, n_out=3, item_ids=(), scores=(), survived=())
    explanations = tuple(Explanation((item,), {}, ()) for item in items)
    return Outcome(
        tuple(items),
        tuple(float(ord(item)) for item in items),
        (stage,),
        {"rank": 5},
        degraded,
        explanations if explained else None,
    )


def test_an_interleaved_outcome_is_made_of_both() -> None:
    one, two = outcome("abc", "x", explained=True), outcome("xbyz", "x", "y", explained=True)
    found, teams = interleaved(one, two, ("red", "blue"), 6, Random(4))
    assert len(found.item_ids) == len(teams) == 6
    assert found.scores == tuple(float(ord(item)) for item in found.item_ids)
    assert found.explanations is not None
    assert tuple(e.sources[0] for e in found.explanations) == found.item_ids
    assert [stage.name for stage in found.stages] == ["rank", "second.rank"]
    assert found.latency_us == {"rank": 5, "second.rank": 5}
    assert found.degraded == ("x", "y")
    assert set(teams) <= {"red", "blue", NOBODY}
    assert interleaved(one, two, ("red", "blue"), 6, Random(4)) == (found, teams)
    short, credited = interleaved(outcome("a"), outcome("bcde"), ("red", "blue"), 4, Random(1))
    assert set(credited[:2]) == {"red", "blue"}
    assert credited[2:] == (NOBODY, NOBODY)
    assert set(short.item_ids) == set("abcd")


class Line:
    """A line that answers what it was made with."""

    def __init__(self, reply: Outcome | Exception) -> None:
        self.reply = reply
        self.asked: list[Query] = []

    async def answer(self, found: Query, _: Deadline) -> Outcome:
        self.asked.append(found)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


SHED = OverloadedError("deadline", "too late", 1)
BOTH = Policy(bundle="red", interleave_with="blue")


def ordered(red: Outcome | Exception, blue: Outcome | Exception, policy: Policy = BOTH) -> Ordered:
    lines = {"red": Line(red), "blue": Line(blue)}
    asked = query(policy=policy)
    return asyncio.run(order(lines, asked, Deadline.after(1000)))  # type: ignore[arg-type]


def test_one_bundle_is_asked_alone() -> None:
    for policy in (Policy(bundle="red"), Policy(bundle="red", interleave_with="red")):
        found = ordered(outcome("abc"), AssertionError(), policy)
        assert found == Ordered(outcome("abc"), (), (("red", outcome("abc")),))


def test_both_answer() -> None:
    found = ordered(outcome("abc"), outcome("xyz"))
    assert found.by == (("red", outcome("abc")), ("blue", outcome("xyz")))
    assert Counter(found.teams) in ({"red": 3, "blue": 2}, {"red": 2, "blue": 3})
    assert found.outcome.degraded == ()
    assert ordered(outcome("abc"), outcome("xyz")) == found  # by the id of the request


@pytest.mark.parametrize("error", [SHED, RuntimeError("no scores")])
def test_where_one_gives_no_answer_it_is_the_others(error: Exception) -> None:
    for found, name in (
        (ordered(outcome("abc", "x"), error), "red"),
        (ordered(error, outcome("abc", "x")), "blue"),
    ):
        assert found.teams == ()
        assert found.outcome == outcome("abc", "x", NOT_INTERLEAVED)
        assert found.by == ((name, outcome("abc", "x")),)


def test_where_neither_answers_there_is_none() -> None:
    with pytest.raises(OverloadedError, match="too late"):
        ordered(SHED, RuntimeError())


def test_of_two_rungs_nobody_is_credited() -> None:
    found = ordered(outcome("abc"), outcome("xyz", "ladder:popular"))
    assert found.teams == ()
    assert found.outcome.degraded == ("ladder:popular", NOT_CREDITED)
    assert ordered(outcome("a", "ladder:popular"), outcome("b", "ladder:popular")).teams
