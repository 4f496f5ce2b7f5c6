"""Training configuration, read from TOML. An unknown key is an error with a suggestion."""

import hashlib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.faults import first_fault

CONFIG_FOLDER = Path(__file__).parent / "configs"


class ConfigError(ValueError):
    """A training configuration that cannot be used; the message names key, value and rule."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CandidateConfig(_Section):
    """The candidates a request is trained on."""

    positives: int = Field(default=24, ge=1)
    """Most bought items a request; more are sampled down."""
    history_negatives: int = Field(default=40, ge=0)
    """For ranking: items of the user's own history that were not bought this time."""
    recalled_negatives: int = Field(default=60, ge=1)
    """For ranking: items that retrieval recalls and that were neither bought nor in the history."""
    random_negatives: int = Field(default=80, ge=1)
    """For retrieval: items drawn by popularity and uniformly, half and half."""


class RetrievalConfig(_Section):
    """The two-tower stage."""

    width: int = Field(default=32, ge=1)
    keep: int = Field(default=300, ge=1)
    """Items recalled from the index."""
    history_candidates: int = Field(default=400, ge=0)
    """Most items of the user's own history that join them."""


class RankConfig(_Section):
    """The ranking stage."""

    width: int = Field(default=16, ge=1)
    hidden: tuple[int, int] = (96, 32)
    attention_units: int = Field(default=8, ge=1)
    attention_length: int = Field(default=30, ge=1)
    keep: int = Field(default=200, ge=1)


class TrainConfig(_Section):
    """One training run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    objective: Literal["separate", "joint"]
    """`separate`: each stage alone, by binary cross-entropy. `joint`: all stages as one network,
    through the operator."""
    operator: str = "dftopk"
    tau: float = Field(default=1.0, gt=0)
    joint_weight: float = Field(default=0.3, ge=0)
    """What surviving the whole cascade weighs beside each stage's own term."""
    seed: int = 0
    epochs: int = Field(default=1, ge=1)
    train_requests: int = Field(default=20_000, ge=1)
    """The newest requests of the training period are used, at most this many."""
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-2, gt=0)
    history_length: int = Field(default=1000, ge=1)
    newcomer_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the requests that are trained on as if their user had never been seen, so that
    newcomers are answered sensibly."""
    evaluations: int = Field(default=3, ge=1)
    """Validations a run, evenly spaced; each writes a checkpoint."""
    patience: int = Field(default=2, ge=1)
    """Validations without a better recall@20 after which training stops."""
    validation_requests: int = Field(default=1000, ge=1)
    candidates: CandidateConfig = CandidateConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    rank: RankConfig = RankConfig()

    @property
    def sha256(self) -> str:
        """Hash of the configuration's content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def config_path(name_or_path: str) -> Path:
    """Path of a configuration: a file, or the name of one that comes with the package.

    Raises:
        ConfigError: there is no such configuration.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise ConfigError(f"{path} does not exist")
    shipped = CONFIG_FOLDER / f"{name_or_path}.toml"
    if shipped.is_file():
        return shipped
    known = sorted(file.stem for file in CONFIG_FOLDER.glob("*.toml"))
    raise ConfigError(f"no configuration {name_or_path!r}; known are {known}, or give a .toml file")


def read_config(path: Path, overrides: dict[str, Any] | None = None) -> TrainConfig:
    """Read and validate a configuration.

    Args:
        path: a TOML file.
        overrides: top-level values that replace those of the file.

    Raises:
        ConfigError: it is not TOML in UTF-8, or a key is unknown, missing or invalid.
    """
    try:
        raw = tomllib.loads(path.read_text()) | (overrides or {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return TrainConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_fault(error, TrainConfig)}") from error
