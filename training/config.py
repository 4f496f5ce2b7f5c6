"""Training configuration, read from TOML. An unknown key is an error with a suggestion."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.faults import first_fault
from training.losses.config import LossConfig
from training.recflow.config import RecFlowConfig

CONFIG_FOLDER = Path(__file__).parent / "configs"

OWN_LISTS = ("bce", "conditional", "dftopk", "lapsum", "sparse", "logistic")
"""Losses that know stages with a list each."""

Config = TypeVar("Config", bound=BaseModel)


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
    """For ranking: items that retrieval recalls and that were neither bought nor in the history; of
    a log of answers, items that were seen and not bought."""
    dropped_negatives: int = Field(default=10, ge=0)
    """For ranking, of a log of answers: items that ranking dropped; they count as not bought."""
    random_negatives: int = Field(default=80, ge=1)
    """For retrieval: items drawn by popularity and uniformly, half and half."""
    shared: bool = False
    """One list for both stages, as the papers of cascade losses have it: that of ranking, and the
    random items. If not, each stage is trained on what it meets when it serves."""


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


class IndexConfig(_Section):
    """How the served bundle finds the nearest items."""

    kind: Literal["auto", "flat", "ivf", "hnsw"] = "auto"
    """`flat` compares with every item, `ivf` looks into lists of similar ones, `hnsw` walks through
    a graph; `auto` is flat up to 100,000 items and ivf above."""
    recall: float = Field(default=0.98, gt=0, le=1)
    """Share of the exact nearest items that ivf and hnsw shall find."""


class TrainConfig(_Section):
    """One training run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    loss: LossConfig = LossConfig()
    """Where each stage has a list of its own, `bce` and `conditional` train each alone, and the
    losses with a cut train them as one network: dftopk, lapsum, sparse, logistic."""
    joint_weight: float = Field(default=0.3, ge=0)
    """What surviving the whole cascade weighs beside each stage's own term; not in `bce`, nor where
    the list is shared."""
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
    index: IndexConfig = IndexConfig()

    @model_validator(mode="after")
    def _known_with_these_lists(self) -> "TrainConfig":
        if not self.candidates.shared and self.loss.name not in OWN_LISTS:
            raise ValueError(
                f"loss.name = {self.loss.name!r} compares the scores of all stages on one list; "
                f"add shared = true under [candidates], or choose one of {', '.join(OWN_LISTS)}"
            )
        return self

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


def config_kind(path: Path) -> Literal["shop", "recflow"]:
    """What a configuration trains on, hence what reads it.

    `read_config` reads a shop's, `read_recflow_config` that of a RecFlow log.

    Raises:
        ConfigError: it is not TOML in UTF-8, or its kind is none of these.
    """
    kind = _read(path).get("kind", "shop")
    if kind == "recflow":
        return "recflow"
    if kind == "shop":
        return "shop"
    raise ConfigError(f"{path}: kind = {kind!r} must be 'recflow', or absent for a shop")


def read_config(path: Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read and validate a configuration that trains on a shop.

    Args:
        path: a TOML file.
        overrides: values that replace those of the file; `loss.tau` is tau of the section loss.

    Raises:
        ConfigError: it is not TOML in UTF-8, or a key is unknown, missing or invalid.
    """
    raw = _read(path)
    if raw.get("kind") == "recflow":
        raise ConfigError(
            f"{path} trains on a RecFlow log (kind = 'recflow'), not on a shop; take another one, "
            "such as dftopk"
        )
    return _validated(path, raw, overrides, TrainConfig)


def read_recflow_config(path: Path, overrides: Mapping[str, Any] | None = None) -> RecFlowConfig:
    """Read and validate a configuration that trains on a RecFlow log.

    Args:
        path: a TOML file.
        overrides: values that replace those of the file; `loss.tau` is tau of the section loss.

    Raises:
        ConfigError: it is not TOML in UTF-8, or a key is unknown, missing or invalid.
    """
    raw = _read(path)
    if "kind" not in raw:
        raise ConfigError(
            f"{path} trains on a shop, not on a RecFlow log; take another one, such as "
            'recflow_dftopk, or begin it with kind = "recflow"'
        )
    return _validated(path, raw, overrides, RecFlowConfig)


def config_toml(config: BaseModel) -> str:
    """A configuration as TOML that is read back as an equal one."""
    values = config.model_dump(mode="json", exclude_none=True)
    sections = {name: v for name, v in values.items() if isinstance(v, dict)}
    lists = {
        name: v
        for name, v in values.items()
        if isinstance(v, list) and v and isinstance(v[0], dict)
    }
    lines = _lines({name: v for name, v in values.items() if name not in {*sections, *lists}})
    for name, section in sections.items():
        lines += ["", f"[{name}]", *_lines(section)]
    for name, members in lists.items():
        for member in members:
            lines += ["", f"[[{name}]]", *_lines(member)]
    return "\n".join(lines) + "\n"


def _lines(values: Mapping[str, Any]) -> list[str]:
    """What JSON and TOML write alike: texts, numbers, truth values and lists of them."""
    return [f"{name} = {json.dumps(value)}" for name, value in values.items()]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _validated(
    path: Path, raw: dict[str, Any], overrides: Mapping[str, Any] | None, model: type[Config]
) -> Config:
    for key, value in (overrides or {}).items():
        *sections, last = key.split(".")
        section = raw
        for name in sections:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{path}: {key} cannot be set, {name} is no section")
        section[last] = value
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_fault(error, model)}") from error
