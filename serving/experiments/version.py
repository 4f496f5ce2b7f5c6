"""Version: a configuration of experiments that came into force, and who made it, when and why.

The store holds the newest version for every worker. A file beside the data repeats it, so that a
server that starts while its store is away splits traffic as it did before.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from abtest.split.config import ExperimentConfig
from abtest.split.experiment import ExperimentError
from abtest.split.revision import check_change, check_return, retire

FILE = "file"
"""Who made a version that is an edit of experiments.toml."""
GUARDRAIL = "guardrail"
"""Who made a version that ends an experiment for the harm it does."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Version(_Record):
    """A configuration, from when it was written until the next one."""

    revision: int
    """Counts from 1; the store gives each number once."""
    config: ExperimentConfig
    config_sha: str
    before_sha: str
    """`config_sha` of the version it was made from; empty for the first."""
    file_sha: str
    """SHA-256 of the newest experiments.toml that was taken up before or with it."""
    at: datetime
    by: str
    """Name of an API key or address of a caller, `file` or `guardrail`."""
    note: str
    retired: dict[str, int] = {}
    """Revision up to which an experiment or holdout was used that is not in force any more."""

    @classmethod
    def first(cls, config: ExperimentConfig, file_sha: str, at: datetime) -> Self:
        """The version that begins with a file."""
        return cls(
            revision=1,
            config=config,
            config_sha=config.sha,
            before_sha="",
            file_sha=file_sha,
            at=at,
            by=FILE,
            note="",
        )

    def check(self, config: ExperimentConfig) -> None:
        """Refuse a configuration after which results of before and after could not be told apart.

        Raises:
            ExperimentError: it needs a higher revision of an experiment or a holdout.
        """
        check_change(self.config, config)
        check_return(config, self.retired)

    def next(
        self,
        config: ExperimentConfig,
        *,
        at: datetime,
        by: str,
        note: str = "",
        file_sha: str | None = None,
    ) -> Self:
        """The version that comes after this one; `file_sha` if it comes with an edit of a file."""
        return type(self)(
            revision=self.revision + 1,
            config=config,
            config_sha=config.sha,
            before_sha=self.config_sha,
            file_sha=self.file_sha if file_sha is None else file_sha,
            at=at,
            by=by,
            note=note,
            retired=retire(self.config, config, self.retired),
        )


class Change(_Record):
    """An entry of the audit trail."""

    revision: int
    at: datetime
    by: str
    note: str
    config_sha: str
    differences: tuple[str, ...]
    """From the version before, one line each; empty for the first version of a store."""

    @classmethod
    def of(cls, version: Version, differences: tuple[str, ...]) -> Self:
        """The entry about a version."""
        return cls(
            revision=version.revision,
            at=version.at,
            by=version.by,
            note=version.note,
            config_sha=version.config_sha,
            differences=differences,
        )


class Standing(_Record):
    """What a data directory was last served with."""

    version: Version
    seen: str
    """SHA-256 of the experiments.toml beside it that was taken up last."""
    pending: bool = False
    """It is an edit of the file that the store does not have yet; its number may change."""


def remembered(path: Path) -> Standing | None:
    """What this data directory was last served with; None if it never was.

    Raises:
        ExperimentError: the file cannot be read.
    """
    try:
        return Standing.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        fault = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise ExperimentError(
            f"{path} cannot be read ({fault}); remove it, then the store says which experiments "
            "are in force, or experiments.toml where the store has none"
        ) from error


def remember(path: Path, standing: Standing) -> None:
    """Repeat what is in force in a file, whole or not at all.

    Raises:
        OSError: the file cannot be written; the old one stays.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        draft.write_text(standing.model_dump_json(indent=1), encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
