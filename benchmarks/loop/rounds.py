"""Rounds: serve, log, train on the log, serve what was learnt; beside it what was never retrained.

Every user is in an experiment of the platform: `first` gets the bundle that was trained on the
shop's own sales and stays, `current` gets what was last trained on the log. Both halves are logged,
and learnt from.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import duckdb
import httpx
import numpy as np

from benchmarks.loop.visitors import NUM, Shown, put_users, visit_all
from demo import serve
from training.config import CandidateConfig, RankConfig, RetrievalConfig, TrainConfig
from training.data.dataset import PreparedDataset
from training.data.events import prepare_events
from training.data.source import SplitSection
from training.data.transactions import prepare
from training.export import export
from training.features import US_PER_DAY
from training.losses.config import LossConfig
from training.synthetic.lists import oracle_lists, popular_list
from training.synthetic.response import earnings
from training.synthetic.tables import LIVE_US, write_tables
from training.synthetic.visits import Visits, draw_visits
from training.synthetic.world import Int64, World, item_ids, make_world
from training.trainer import train

FIRST, CURRENT = "first", "current"
ARCHIVE_TIMEOUT_S = 120.0
_ENVIRONMENT = {
    "CASCADE_ARCHIVE_INTERVAL_S": "1",
    "CASCADE_DEVICE": "cpu",
    "OMP_NUM_THREADS": "1",
}

EXPERIMENTS = f"""\
version = 1

[defaults]
bundle = "{FIRST}"
price_exponent = 1.0

[[layers]]
name = "model"
seed = "loop"

[[layers.experiments]]
key = "retraining"
revision = 1
state = "running"
control = "{FIRST}"
variants = [
    {{ name = "{FIRST}", weight = 0.5, params = {{ bundle = "{FIRST}" }} }},
    {{ name = "{CURRENT}", weight = 0.5, params = {{ bundle = "{CURRENT}" }} }},
]
"""
"""Answers are ordered by probability times price in both arms."""


class LoopError(RuntimeError):
    """The loop cannot go on; the message says what failed."""


class Plan(NamedTuple):
    """How much of everything."""

    users: int
    items: int
    rounds: int
    """Trainings on the log."""
    days: int
    """Of a round."""
    seeds: int
    epochs: int


class Arm(NamedTuple):
    """What one variant showed in one round, by the world's own truth."""

    visits: int
    expected: float
    """Money a visit, exact for the lists that were shown."""
    oracle: float
    """What the best lists would earn in the same visits."""
    bestsellers: float
    """What the items would that had sold for most money by then, the same for everybody."""
    best_common: float
    """What the best list that is the same for everybody would; nobody can know it."""


class Round(NamedTuple):
    """One round of one seed."""

    seed: int
    number: int
    """How often `current` was trained on the log before."""
    arms: dict[str, Arm]
    train_requests: int
    """What `current` was last trained on."""
    train_s: float
    earned: float
    """What the visitors really paid, of all arms."""
    events: int
    degraded: int
    """Answers that were less than they should be."""


def config(plan: Plan, seed: int) -> TrainConfig:
    """What is trained in every round."""
    return TrainConfig(
        name="loop",
        loss=LossConfig(name="bce"),
        seed=seed,
        epochs=plan.epochs,
        learning_rate=1e-2,
        history_length=60,
        evaluations=plan.epochs,
        patience=plan.epochs,
        validation_requests=400,
        candidates=CandidateConfig(positives=6, history_negatives=10, recalled_negatives=30),
        retrieval=RetrievalConfig(width=16, keep=60, history_candidates=20),
        rank=RankConfig(width=16, hidden=(32, 16), attention_length=20, keep=60),
    )


def run(plan: Plan, seed: int, folder: Path, tick: Callable[[str, int], None]) -> list[Round]:
    """The loop of one seed.

    Args:
        plan: how much of everything.
        seed: of the world, its visits and the trainings.
        folder: to work in; what is in it is removed.
        tick: told what goes on, and how many visits were made.
    """
    shutil.rmtree(folder, ignore_errors=True)
    world = make_world(plan.users, plan.items, seed)
    shop = write_tables(world, folder / "shop")
    dataset = prepare(shop, folder / "prepared-0")
    tick(f"seed {seed}: first training", 0)
    train_s = _bundle(plan, seed, dataset, folder, 0)
    shutil.copytree(folder / "bundles" / "round-0", folder / "bundles" / FIRST)
    shutil.copytree(folder / "bundles" / "round-0", folder / "bundles" / CURRENT)
    (folder / "experiments.toml").write_text(EXPERIMENTS)
    random = np.random.default_rng((seed, plan.users, 1))
    rounds: list[Round] = []
    logged = 0
    with _environment(), serve(folder) as url:
        put_users(url, shop.parent)
        for number in range(plan.rounds + 1):
            if number:
                tick(f"seed {seed}: training on the log, round {number}", 0)
                dataset = _learnt_from(folder, shop, number, logged)
                train_s = _bundle(plan, seed, dataset, folder, number)
                _activate(url, f"round-{number}")
            visits = draw_visits(
                world, LIVE_US + number * plan.days * US_PER_DAY, plan.days, random
            )
            what = f"seed {seed}: visits of round {number}"
            shown = visit_all(url, world, visits, _seed(seed, number), partial(tick, what, 1))
            logged += shown.events + len(visits.users_V)
            rounds.append(_measured(seed, number, world, visits, shown, dataset, train_s))
    return rounds


def _seed(seed: int, number: int) -> int:
    return 1_000 * seed + number


def _bundle(plan: Plan, seed: int, dataset: PreparedDataset, folder: Path, number: int) -> float:
    """Train and export; seconds of the training."""
    out = folder / "runs" / f"round-{number}"
    result = train(dataset, config(plan, seed), out)
    export(out, dataset, folder / "bundles" / f"round-{number}")
    return result.seconds


def _learnt_from(folder: Path, shop: Path, number: int, logged: int) -> PreparedDataset:
    """The log so far, once the archive has all of it."""
    deadline_s = time.monotonic() + ARCHIVE_TIMEOUT_S
    while (found := _archived(folder / "events")) < logged:
        if time.monotonic() > deadline_s:
            raise LoopError(f"{found} of {logged} events are archived; see {folder}/server.log")
        time.sleep(0.2)
    return prepare_events(
        folder / "events",
        shop,
        folder / f"prepared-{number}",
        split=SplitSection(test_days=1, validation_days=1),
    )


def _archived(events: Path) -> int:
    if not any(events.glob("day=*/*.parquet")):
        return 0
    files = str(events / "day=*" / "*.parquet")
    row = duckdb.execute(
        "SELECT count(DISTINCT event_id) FROM read_parquet(?, union_by_name = true)", [files]
    ).fetchone()
    assert row is not None
    return int(row[0])


def _activate(url: str, source: str) -> None:
    reply = httpx.post(f"{url}/v1/bundles/{CURRENT}/activate", json={"source": source}, timeout=60)
    if reply.status_code != 200:
        raise LoopError(f"{source} was not activated: {reply.status_code} {reply.text[:300]}")


def _measured(
    seed: int,
    number: int,
    world: World,
    visits: Visits,
    shown: Shown,
    dataset: PreparedDataset,
    train_s: float,
) -> Round:
    variants = np.array(shown.variants_V)
    money = {
        "expected": shown.lists.items_BP,
        "oracle": oracle_lists(world, visits.users_V, NUM),
        "bestsellers": np.tile(_bestsellers(world, dataset), (len(variants), 1)),
        "best_common": np.tile(popular_list(world, NUM), (len(variants), 1)),
    }
    mean_V = {
        name: earnings(world, shown.lists._replace(items_BP=items_VP)).mean_B
        for name, items_VP in money.items()
    }
    arms = {
        name: Arm(
            visits=int((variants == name).sum()),
            **{what: float(of_V[variants == name].mean()) for what, of_V in mean_V.items()},
        )
        for name in (FIRST, CURRENT)
    }
    before = dataset.arrays.request_ts_us < dataset.meta.validation_start_us
    return Round(
        seed=seed,
        number=number,
        arms=arms,
        train_requests=int(before.sum()),
        train_s=train_s,
        earned=shown.revenue_micros / 1e6,
        events=shown.events,
        degraded=shown.degraded,
    )


def _bestsellers(world: World, dataset: PreparedDataset) -> Int64:
    """Items that sold for most money in the shop and, once there is one, in the log."""
    number = {item_id: n for n, item_id in enumerate(item_ids(world))}
    sold = np.bincount(dataset.arrays.purchase_rows, minlength=len(dataset.items))[1:]
    items_I = np.array([number[item_id] for item_id in dataset.items.item_ids])
    money_I = sold * world.price_micros_I[items_I]
    return items_I[np.argsort(-money_I, kind="stable")[:NUM]]


@contextmanager
def _environment() -> Iterator[None]:
    """Settings of the server that is started inside."""
    before = dict(os.environ)
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
