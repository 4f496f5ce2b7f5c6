"""What was chosen, in the store and in the file that repeats it."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving.bundles.choice import TOPIC, Choice, ChoiceStore, Trial, remember, remembered
from serving.settings import Settings
from serving.state.control import KEY
from serving.state.store import Store
from training.bundle import BundleError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHOICE = Choice(source="red", activation="1", since=NOW)
TRIAL = Trial(trial_id="2", source="blue", share=0.5, since=NOW)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(Settings(data_dir=Path(tmp_path_factory.mktemp("choices")))) as opened:
        yield opened


def test_choices_and_trials_are_read_as_they_were_written(store: Store) -> None:
    async def use() -> None:
        async with store.client() as client:
            choices = ChoiceStore(client)
            assert await choices.read() == ({}, {})
            await choices.begin("a", TRIAL)
            await choices.begin("b", TRIAL)
            await choices.choose("a", CHOICE, end_trial=False)
            assert await choices.read() == ({"a": CHOICE}, {"a": TRIAL, "b": TRIAL})
            await choices.choose("a", CHOICE, end_trial=True)
            await choices.end("b")
            assert await choices.read() == ({"a": CHOICE}, {})
            # Each of the five changes was announced.
            assert await client.hget(KEY, TOPIC) == b"5"

    asyncio.run(use())


def test_the_file_repeats_the_choices(tmp_path: Path) -> None:
    path = tmp_path / "bundles.json"
    assert remembered(path) == {}
    remember(path, {"a": CHOICE})
    remember(path, {"a": CHOICE, "b": Choice(source="b")})
    assert remembered(path) == {"a": CHOICE, "b": Choice(source="b")}
    assert [file.name for file in tmp_path.iterdir()] == ["bundles.json"]


@pytest.mark.parametrize("content", [b"{", b'{"a": {"source": 1}}', b"[]"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bundles.json"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"bundles.json cannot be read \(.*\); remove it, then"):
        remembered(path)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        remember(tmp_path / "gone" / "bundles.json", {})
