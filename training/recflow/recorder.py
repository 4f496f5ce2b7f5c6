"""Recorder: what is logged of a made-up cascade.

Legend: B requests, M candidates of an `Outcome`, S slots of a list.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.recflow.funnel import GROUPS, RANKED, Outcome
from training.recflow.log import LIST_LENGTH
from training.recflow.schema import (
    FEEDBACK,
    FLAGS,
    HISTORY_COLUMNS,
    LIST_COLUMNS,
    REQUEST_COLUMNS,
    ROW_COLUMNS,
    VIDEO_COLUMNS,
)
from training.recflow.visits import Visits
from training.recflow.world import Videos

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

CUTS = {
    "realshow": slice(0, RANKED), "rank_pos": slice(0, RANKED), **GROUPS,
}  # fmt: skip
"""List to the candidates of an outcome that may be in it."""
USUAL_UTILITY = 3.0
"""Of what is shown."""


class Gaps(NamedTuple):
    """What real logs lack."""

    short_share: float
    """Share of the requests that have lists of fewer than `LIST_LENGTH`, or none."""
    missing_share: float
    """Share of the rank_pos videos that have no row."""


class Record(NamedTuple):
    """What is logged of B requests."""

    rows: dict[str, Int64]
    """Column to values, as `ROW_COLUMNS`; a request's rows follow each other."""
    lists_BS: dict[str, Int64]
    """List to [B, S, 8], as `LIST_COLUMNS`."""
    lengths_B: dict[str, Int64]
    """List to how many of its slots are filled, from the left."""
    views_E: Int64
    """[E, 10] effective views, as `HISTORY_COLUMNS`."""
    visit_E: Int64
    """[E] places among the B requests, ascending."""


def record_outcome(
    outcome: Outcome,
    visits: Visits,
    people_BF: Int64,
    videos: Videos,
    gaps: Gaps,
    random: np.random.Generator,
) -> Record:
    """What is logged of B requests.

    Args:
        outcome: what became of their candidates.
        visits: the B requests.
        people_BF: user_id, device_id, age, gender, province.
        videos: those of the outcome.
        gaps: what is left out.
        random: draws feedback, samples and gaps.
    """
    published_BMF = videos.published_VF[outcome.videos_BM]
    columns = dict(zip(VIDEO_COLUMNS, np.moveaxis(published_BMF, 2, 0), strict=True))
    columns |= _feedback(outcome, videos, random)
    people = np.column_stack([visits.ids_R, visits.timestamps_ms_R, people_BF])
    for name, values_B in zip(REQUEST_COLUMNS, people.T, strict=True):
        columns[name] = np.broadcast_to(values_B[:, None], outcome.videos_BM.shape)
    columns |= {"rank_index": outcome.rank_index_BM, "rerank_index": outcome.rerank_index_BM}
    lists_BS, lengths_B = _log_lists(outcome, columns, gaps.short_share, random)
    kept_BM = np.any([columns[name] for name in FLAGS], axis=0)
    kept_BM &= (columns["rank_pos"] == 0) | (random.random(kept_BM.shape) >= gaps.missing_share)
    viewed_BM = columns["effective_view"] == 1
    return Record(
        {name: columns[name][kept_BM] for name in ROW_COLUMNS},
        lists_BS,
        lengths_B,
        np.stack([columns[name][viewed_BM] for name in HISTORY_COLUMNS], axis=1),
        np.nonzero(viewed_BM)[0],
    )


def _log_lists(
    outcome: Outcome, columns: dict[str, Int64], short_share: float, random: np.random.Generator
) -> tuple[dict[str, Int64], dict[str, Int64]]:
    """Lists and their lengths; `columns` gets the flags."""
    listed_BMF = np.stack([columns[name] for name in LIST_COLUMNS], axis=2)
    requests_B1 = np.arange(len(listed_BMF))[:, None]
    short_B = random.random(len(listed_BMF)) < short_share
    lists_BS, lengths_B = {}, {}
    for name, cut in CUTS.items():
        member_BM = _members(name, outcome)[:, cut]
        length_B = np.minimum(member_BM.sum(axis=1), LIST_LENGTH)
        if name != "realshow":
            cut_short_B = short_B & (random.random(len(short_B)) < 0.5)
            length_B[cut_short_B] = random.integers(0, LIST_LENGTH, cut_short_B.sum())
        lots_BM = random.random(member_BM.shape, dtype=np.float32) + 2 * ~member_BM
        order_BS = np.argsort(lots_BM, axis=1)[:, :LIST_LENGTH]
        lists_BS[name] = listed_BMF[:, cut][requests_B1, order_BS]
        lengths_B[name] = length_B
        columns[name] = np.zeros(outcome.videos_BM.shape, np.int64)
        kept_BS = np.arange(LIST_LENGTH) < length_B[:, None]
        np.put_along_axis(columns[name][:, cut], order_BS, kept_BS.astype(np.int64), axis=1)
    return lists_BS, lengths_B


def _members(name: str, outcome: Outcome) -> Bool:
    if name == "realshow":
        return outcome.shown_BM
    if name == "rank_pos":
        return outcome.rank_pos_BM
    return outcome.videos_BM >= 0


def _feedback(outcome: Outcome, videos: Videos, random: np.random.Generator) -> dict[str, Int64]:
    """What the users did with what was shown to them; zeros elsewhere."""
    shown_BM = outcome.shown_BM
    duration_ms = videos.published_VF[:, VIDEO_COLUMNS.index("duration")]
    durations_E = duration_ms[outcome.videos_BM[shown_BM]]
    delight_E = outcome.utility_BM[shown_BM] - USUAL_UTILITY
    watched_E = 0.3 * np.exp(0.8 * delight_E + 0.6 * random.standard_normal(len(delight_E)))
    playing_E = (durations_E * np.minimum(watched_E, 5)).astype(np.int64)
    done = {
        "playing_time": playing_E,
        "effective_view": 10 * playing_E >= 3 * durations_E,
        "long_view": playing_E >= durations_E,
    }
    for rarity, name in enumerate(FEEDBACK[len(done) :], start=3):
        done[name] = random.random(len(delight_E)) < 1 / (1 + np.exp(rarity - delight_E))
    feedback = {}
    for name, values_E in done.items():
        feedback[name] = np.zeros(shown_BM.shape, np.int64)
        feedback[name][shown_BM] = values_E
    return feedback
