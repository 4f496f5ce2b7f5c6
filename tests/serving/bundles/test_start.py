"""What a server loads before it answers."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from abtest.split.config import ExperimentConfig, parse_config
from abtest.split.experiment import ExperimentError
from serving.bundles.choice import Choice, remember
from serving.bundles.loading import Loader
from serving.bundles.start import load_from_disk, load_named
from serving.settings import Settings
from serving.telemetry.metrics import Metrics
from tests.serving.bundles.candidates import CPU
from tests.serving.unruled import no_rules
from tests.serving.world import EXPERIMENTS, write_world
from training.bundle import BundleError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def config(text: str = EXPERIMENTS) -> ExperimentConfig:
    return parse_config(text)


def test_activated_folders_take_the_place_of_those_of_the_names(tmp_path: Path) -> None:
    write_world(tmp_path)
    (tmp_path / "bundles" / "spare").mkdir()  # not named, so not looked at
    choice = Choice(source="dftopk", activation="1", since=NOW)
    remember(tmp_path / "bundles.json", {"baseline": choice})
    disk = load_from_disk(Settings(data_dir=tmp_path, device="cpu"), Metrics())
    assert {name: f.bundle for name, f in disk.funnels.items()} == {
        "baseline": "dftopk@1",
        "dftopk": "dftopk@1",
    }


def test_activated_folder_that_is_gone(tmp_path: Path) -> None:
    write_world(tmp_path)
    loader, memory = Loader(tmp_path / "bundles", CPU, no_rules()), tmp_path / "bundles.json"
    message = (
        r"there is no folder 'gone' in .*; 'gone' was activated as 'baseline': to start with the "
        r"folder 'baseline' instead, remove .*bundles\.json"
    )
    with pytest.raises(BundleError, match=message):
        load_named(loader, config(), {"baseline": Choice(source="gone")}, memory)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = 1\n[defaults]\nx = 1\n", r"\[defaults\] must set 'bundle' .* it sets \['x'\]"),
        (
            'version = 1\n[defaults]\nbundle = "blue"\n',
            r"name bundle 'blue', which is not in .*; there are \['baseline', 'dftopk'\]",
        ),
        (
            'version = 1\n[defaults]\nbundle = "baseline"\ncap = 900\n',
            "parameter cap = 900: Input should be less than or equal to 200",
        ),
    ],
)
def test_experiments_that_cannot_be_served(tmp_path: Path, text: str, message: str) -> None:
    write_world(tmp_path)
    with pytest.raises(ExperimentError, match=message):
        load_named(
            Loader(tmp_path / "bundles", CPU, no_rules()),
            config(text),
            {},
            tmp_path / "bundles.json",
        )
