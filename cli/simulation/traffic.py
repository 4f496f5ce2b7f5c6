"""Traffic: the events of one day of a simulated experiment.

Legend: V visits, P positions of a list.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from abtest.events import RankingEvent
from abtest.log.attribution import Report
from abtest.split.splitter import Split, Splitter
from cli.simulation.policies import LENGTH, Arms
from training.synthetic.response import Lists, Responses, respond
from training.synthetic.visits import Visits, draw_visits
from training.synthetic.world import CURRENCY, DEVICES, Int64, World, item_ids, user_ids

CONTROL, TREATMENT = "control", "treatment"
_PAY_US = 60_000_000
_SCORES = tuple(1 / position for position in range(1, LENGTH + 1))


class Day(NamedTuple):
    """What is logged of a day; only clicks and purchases, impressions would decide nothing."""

    answers: tuple[RankingEvent, ...]
    reports: tuple[Report, ...]


def day_of_traffic(
    world: World,
    arms: Arms,
    splitter: Splitter,
    name: str,
    start_us: int,
    random: np.random.Generator,
) -> Day:
    """One day: users come, are split, see their variant's list, click and buy.

    Args:
        world: whose users come.
        arms: what the variants show.
        splitter: of the experiment.
        name: begins every id, so that no two days share one.
        start_us: of the day.
        random: draws all that chance decides but the split.
    """
    visits = draw_visits(world, start_us, 1.0, random)
    people = user_ids(world)
    splits = [
        splitter.assign(people[user], now_us=ts_us)
        for user, ts_us in zip(visits.users_V.tolist(), visits.ts_us_V.tolist(), strict=True)
    ]
    treated_V = np.array([TREATMENT in {a.variant for a in s.assignments} for s in splits], bool)
    other_V = treated_V & (random.random(len(splits)) < arms.share)
    items_VP = np.where(
        other_V[:, None],
        arms.other.lists_UP[visits.users_V],
        arms.control.lists_UP[visits.users_V],
    )
    responses = respond(world, Lists(visits.users_V, visits.devices_V, items_VP), random)
    answers = tuple(_answers(world, name, visits, splits, items_VP))
    return Day(answers, tuple(_reports(world, answers, items_VP, responses)))


def _answers(
    world: World, name: str, visits: Visits, splits: list[Split], items_VP: Int64
) -> Iterator[RankingEvent]:
    names, people = np.array(item_ids(world)), user_ids(world)
    for number, split in enumerate(splits):
        ts_us = int(visits.ts_us_V[number])
        request_id = f"{name}-{number:06d}"
        yield RankingEvent(
            event_id=request_id,
            event_ts_us=ts_us,
            ingest_ts_us=ts_us,
            request_id=request_id,
            unit=people[visits.users_V[number]],
            experiments=split.assignments,
            config_sha=split.config_sha,
            bundle="simulated@1",
            context={"device": DEVICES[visits.devices_V[number]]},
            item_ids=tuple(names[items_VP[number]].tolist()),
            scores=_SCORES,
            stages=(),
            latency_us={"total": 5_000},
            degraded=(),
        )


def _reports(
    world: World, answers: tuple[RankingEvent, ...], items_VP: Int64, responses: Responses
) -> Iterator[Report]:
    for visit, position in np.argwhere(responses.clicked_BP).tolist():
        answer = answers[visit]
        ts_us = answer.event_ts_us + _PAY_US
        of = (ts_us, ts_us, answer.request_id, answer.item_ids[position])
        yield Report("click", f"{answer.event_id}-c{position}", *of)
        if responses.bought_BP[visit, position]:
            micros = int(world.price_micros_I[items_VP[visit, position]])
            yield Report("conversion", f"{answer.event_id}-b{position}", *of, micros, CURRENCY)
