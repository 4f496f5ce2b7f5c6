"""A catalog takes a configuration up once it is committed, or not at all."""

import asyncio
from pathlib import Path

import pytest
import redis

from abtest.split.config import parse_config
from serving.bundles.opening import open_bundles
from serving.bundles.start import load_from_disk
from serving.cascade.line import Line
from serving.settings import Settings
from serving.state.control import Control
from serving.state.store import Store
from serving.telemetry.metrics import Metrics
from tests.serving.world import EXPERIMENTS, write_world


def test_a_configuration_is_in_force_once_it_is_committed(tmp_path: Path) -> None:
    write_world(tmp_path)
    path = tmp_path / "experiments.toml"
    path.write_text('version = 1\n[defaults]\nbundle = "baseline"\n')
    settings, metrics = Settings(data_dir=tmp_path, device="cpu"), Metrics()
    both = parse_config(EXPERIMENTS)

    async def caught_up(_: object) -> None:
        """There are no items to catch up with."""

    async def run(store: Store) -> None:
        async with (
            store.client() as client,
            open_bundles(
                load_from_disk(settings, metrics),
                client,
                Control(client),
                catch_up=caught_up,
                make_line=lambda funnel: Line(funnel, 1),
                busy=lambda: False,
                metrics=metrics,
            ) as bundles,
        ):
            before, served = bundles.lineup, dict(bundles.catalog.served)

            async def refuse() -> None:
                assert bundles.lineup is before
                raise redis.ConnectionError("the store is away")

            async def agree() -> None:
                assert bundles.lineup is before

            with pytest.raises(redis.ConnectionError):
                await bundles.catalog.adopt(both, refuse)
            await bundles.catalog.try_out(both)
            assert bundles.lineup is before
            assert bundles.catalog.served == served
            await bundles.catalog.adopt(both, agree)
            assert bundles.lineup.splitter.config == both
            assert sorted(bundles.lineup.lines) == ["baseline", "dftopk"]

    with Store(settings) as store:
        asyncio.run(run(store))
