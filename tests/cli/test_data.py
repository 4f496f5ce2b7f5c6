"""`cascade data` of a made-up shop and of the server's own events: options and their mistakes."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from training.data.dataset import PreparedDataset


def test_a_synthetic_shop_is_prepared(tmp_path: Path) -> None:
    words = ["data", "synthetic", "--users", "150", "--items", "60", "--seed", "1"]
    done = CliRunner().invoke(main, [*words, "--data-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    dataset = PreparedDataset(tmp_path / "data" / "synthetic" / "prepared")
    assert dataset.meta.name == "synthetic"
    assert [field.name for field in dataset.meta.user_fields] == ["age", "region"]
    # The one description there is: events are looked for next, and there are none.
    found = CliRunner().invoke(main, ["data", "events", "--data-dir", str(tmp_path)])
    assert found.exit_code == 2
    assert "holds no archived events; let a server answer" in found.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("complete-journey", "--users", "20"), "--users is for synthetic only, not for complete-"),
        (("synthetic", "--clicks"), "--clicks is for events only, not for synthetic"),
        (("synthetic", "--test-days", "2"), "--test-days is for events only, not for synthetic"),
        (("synthetic", "--users", "5"), "users = 5 must be in [10, 200000]; choose one in it"),
        (("events",), "there must be one */source/dataset.toml to take the users and items of the"),
        (("events", "somewhere"), "somewhere is one word too many: only recflow takes a FOLDER"),
    ],
)
def test_options_that_are_not_for_this_source(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    found = CliRunner().invoke(main, ["data", *words, "--data-dir", str(tmp_path)])
    assert found.exit_code == 2
    assert message in " ".join(found.output.split())
