"""Generator: a made-up data set in the format RecFlow is published in.

For trying everything out, and for tests: what holds on it says nothing about Kuaishou's users.

Legend: R requests of a day, U users, D latent width.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.recflow.funnel import Funnel, Shelf
from training.recflow.log import LogError
from training.recflow.publisher import (
    DayFiles,
    FeatherWriter,
    corpus_writer,
    make_folders,
    write_counts,
)
from training.recflow.recorder import Gaps, Record, record_outcome
from training.recflow.schema import FLAGS
from training.recflow.visits import Memory, Visits, draw_visits
from training.recflow.world import SHELF_DAYS, WARM_DAYS, Size, World, shelve

CHUNK = 2048
FIRST_DAY = date(2024, 1, 13)
LEAST_REQUESTS = 20
"""Of a day."""

Int64 = NDArray[np.int64]
Progress = Callable[[str, int, int], None]


def generate(
    out: Path,
    *,
    requests: int,
    days: int,
    seed: int,
    short_share: float = 0.0,
    missing_share: float = 0.0,
    progress: Progress = lambda *_: None,
) -> None:
    """Write a made-up data set; equal arguments give equal data.

    Args:
        out: folder to make.
        requests: number of requests, spread evenly over the days.
        days: number of days, from 2024-01-13.
        seed: of everything that is drawn.
        short_share: share of the requests that have lists of fewer than 10, or none.
        missing_share: share of the rank_pos videos that have no row.
        progress: called with what is being done, how many requests are done, and of how many;
            those of the days that only give users a history count too.

    Raises:
        LogError: an argument is out of its range, or `out` holds something.
    """
    _check(out, requests, days, short_share, missing_share)
    size = Size.of(requests // days, days + WARM_DAYS)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _Platform(World(size, seed), Gaps(short_share, missing_share), seed).write(draft, progress)
        if out.exists():
            out.rmdir()
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check(out: Path, requests: int, days: int, short_share: float, missing_share: float) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LogError(f"{out} is not empty; choose another folder or remove it")
    if days < 1:
        raise LogError(f"days == {days} must be at least 1")
    if requests < LEAST_REQUESTS * days:
        raise LogError(
            f"requests == {requests} must be at least {LEAST_REQUESTS * days}, {LEAST_REQUESTS} "
            "for each day"
        )
    for name, share in (("short_share", short_share), ("missing_share", missing_share)):
        if not 0 <= share <= 1:
            raise LogError(f"{name} == {share} must be in [0, 1]")


class _Platform:
    """What one day hands over to the next."""

    def __init__(self, world: World, gaps: Gaps, seed: int) -> None:
        self._world = world
        self._gaps = gaps
        self._seed = seed
        self._memory = Memory(world.size.users)
        self._drift_UD = np.zeros_like(world.users.tastes_UD)
        self._shown_V = np.zeros(world.size.counts["video_id"], bool)
        self._videos = world.uploads(1 - SHELF_DAYS)
        for day in range(2 - SHELF_DAYS, 0):
            self._videos = shelve(self._videos, world.uploads(day))

    def write(self, root: Path, progress: Progress) -> None:
        """Write all days."""
        make_folders(root)
        size = self._world.size
        done, total = 0, size.requests * size.days
        with corpus_writer(root) as corpus:
            for day in range(size.days):
                for requests in self._live(root, corpus, day):
                    done += requests
                    progress("generate", done, total)
        write_counts(root, size.counts)

    def _live(self, root: Path, corpus: FeatherWriter, day: int) -> Iterator[int]:
        """Live through a day; yields numbers of requests answered."""
        random = np.random.default_rng((self._seed, 3, day))
        self._videos = shelve(self._videos, self._world.uploads(day))
        self._drift_UD = self._world.drift(day, self._drift_UD)
        visits = draw_visits(self._world, day, random)
        if day < WARM_DAYS:
            records = []
            for record in self._answers(visits, random):
                records.append(record._replace(rows={}, lists_BS={}))
                yield len(record.lengths_B["realshow"])
            self._recall(visits, records)
            return
        name = (FIRST_DAY + timedelta(days=day - WARM_DAYS)).isoformat()
        records = []
        with DayFiles(root, name) as files:
            for record in self._answers(visits, random):
                files.write_rows(record.rows, self._show(record.rows, corpus))
                records.append(record._replace(rows={}))
                yield len(record.lengths_B["realshow"])
            files.write_histories(visits.ids_R, self._recall(visits, records))
            files.write_lists(
                visits.ids_R,
                {name: _joined(record.lists_BS[name] for record in records) for name in FLAGS},
                {name: _joined(record.lengths_B[name] for record in records) for name in FLAGS},
            )

    def _answers(self, visits: Visits, random: np.random.Generator) -> Iterator[Record]:
        """What is logged of a day's requests."""
        world = self._world
        funnel = Funnel(world, Shelf(self._videos), random)
        for first in range(0, len(visits.ids_R), CHUNK):
            part = Visits(*(column_R[first : first + CHUNK] for column_R in visits))
            users = part.users_R
            interests_BD = world.users.tastes_UD[users] + self._drift_UD[users]
            outcome = funnel.answer(users, interests_BD, part.hours_R)
            people_BF = world.users.published_UF[users]
            yield record_outcome(outcome, part, people_BF, self._videos, self._gaps, random)

    def _recall(self, visits: Visits, records: list[Record]) -> Int64:
        """Histories of a day's requests."""
        visit_E = _joined(chunk * CHUNK + record.visit_E for chunk, record in enumerate(records))
        return self._memory.recall(visits, _joined(record.views_E for record in records), visit_E)

    def _show(self, rows: dict[str, Int64], corpus: FeatherWriter) -> dict[str, Int64]:
        """Rows that were shown; the corpus gets the videos that never were before."""
        shown = {name: values[rows["realshow"] == 1] for name, values in rows.items()}
        videos, places = np.unique(shown["video_id"], return_index=True)
        places = places[~self._shown_V[videos]]
        self._shown_V[videos] = True
        corpus.write({name: values[places] for name, values in shown.items()})
        return shown


def _joined(arrays: Iterable[Int64]) -> Int64:
    return np.concatenate(list(arrays))
