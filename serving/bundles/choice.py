"""Choice: which folder a served name answers from, and which one is tried beside it.

The store holds what was chosen, for every worker and every restart. A file beside the data repeats
it, so that a server that starts while its store is away serves what it served before.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import redis.asyncio
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from serving.state.control import announce
from training.bundle import BundleError

TOPIC = "bundles"
CHOICES_KEY = "bundles"
"""Hash in the store: served name -> choice."""
TRIALS_KEY = "shadows"
"""Hash in the store: served name -> trial."""


class Choice(BaseModel):
    """The folder that was activated under a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """Folder under the bundles' folder."""
    activation: str = ""
    """Id of the call that chose it, so that the same folder with other content is another choice.
    Empty where nobody chose: the folder has the served name."""
    since: datetime | None = None


class Trial(BaseModel):
    """A candidate that scores a share of the traffic of a name without answering."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trial_id: str
    source: str
    share: float
    since: datetime


_Record = TypeVar("_Record", Choice, Trial)
_REMEMBERED = TypeAdapter(dict[str, Choice])


class ChoiceStore:
    """Choices and trials in the store; every change is announced to all workers."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """Read and write through a client."""
        self._client = client

    async def read(self) -> tuple[dict[str, Choice], dict[str, Trial]]:
        """Everything chosen, by served name."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hgetall(CHOICES_KEY)
        pipeline.hgetall(TRIALS_KEY)
        choices, trials = await pipeline.execute()
        return _parsed(choices, Choice), _parsed(trials, Trial)

    async def choose(self, name: str, choice: Choice, *, end_trial: bool) -> None:
        """Make every worker answer from another folder, and end the trial if that is asked for."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hset(CHOICES_KEY, name, choice.model_dump_json())
        if end_trial:
            pipeline.hdel(TRIALS_KEY, name)
        announce(pipeline, TOPIC)
        await pipeline.execute()

    async def begin(self, name: str, trial: Trial) -> None:
        """Make every worker try a candidate, in the place of an earlier one."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hset(TRIALS_KEY, name, trial.model_dump_json())
        announce(pipeline, TOPIC)
        await pipeline.execute()

    async def end(self, name: str) -> None:
        """Make every worker stop trying the candidate of a name."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hdel(TRIALS_KEY, name)
        announce(pipeline, TOPIC)
        await pipeline.execute()


def remembered(path: Path) -> dict[str, Choice]:
    """The choices this data directory was last served with.

    Raises:
        BundleError: the file cannot be read.
    """
    try:
        return _REMEMBERED.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        fault = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise BundleError(
            f"{path} cannot be read ({fault}); remove it, then the store says which bundles were "
            "activated, or each name is served from the folder of its name"
        ) from error


def remember(path: Path, choices: Mapping[str, Choice]) -> None:
    """Repeat the choices in a file, whole or not at all.

    Raises:
        OSError: the file cannot be written; the old one stays.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        draft.write_bytes(_REMEMBERED.dump_json(dict(choices), indent=1))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _parsed(raw: Mapping[Any, Any], kind: type[_Record]) -> dict[str, _Record]:
    return {name.decode(): kind.model_validate_json(value) for name, value in raw.items()}
