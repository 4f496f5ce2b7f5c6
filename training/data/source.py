"""Dataset description: a TOML that names the columns of users, items and interactions."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from training.bundle import AVAILABLE, ITEM_ID, POPULARITY, PRICE_MICROS
from training.faults import first_fault

RESERVED = (ITEM_ID, PRICE_MICROS, AVAILABLE, POPULARITY)
"""Columns of every bundle's item table, which item features stand beside."""


class DatasetError(ValueError):
    """Input data that cannot be used; the message names file, column, row and remedy."""


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{repeated[0]!r} occurs twice; name each column once")
    return names


def _unreserved(names: tuple[str, ...]) -> tuple[str, ...]:
    if taken := [name for name in names if name in RESERVED]:
        raise ValueError(f"{taken[0]!r} is a column of every item table; rename it")
    return names


_Columns = Annotated[tuple[str, ...], AfterValidator(_distinct)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UsersSection(_Section):
    """Table of users: one row a user."""

    file: str
    id: str
    features: _Columns = ()
    """Categorical columns; null is allowed."""


class ItemsSection(_Section):
    """Table of items: one row an item."""

    file: str
    id: str
    features: Annotated[_Columns, AfterValidator(_unreserved)] = ()
    """Categorical columns; null is allowed. The first also groups items in the history features."""
    available: str | None = None
    """Boolean column: may be recommended. All items may if absent."""


class InteractionsSection(_Section):
    """Table of interactions: one row an item of a request; further rows of it are added up."""

    file: str
    user: str
    item: str
    time: str
    """Timestamp column; without a time zone it is taken as UTC."""
    revenue: str
    """Money of the row in currency units, not negative."""
    price: str | None = None
    """Price of one piece in currency units; the row's revenue if absent."""
    context: _Columns = ()
    """Columns known when the request arrives, such as the store or the device."""


class SplitSection(_Section):
    """Split by time: the last days are test, the days before them validation."""

    test_days: int = Field(default=28, ge=1)
    validation_days: int = Field(default=28, ge=1)


class DatasetConfig(_Section):
    """A dataset: where its tables are and what their columns mean."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    users: UsersSection
    items: ItemsSection
    interactions: InteractionsSection
    split: SplitSection = SplitSection()
    min_item_count: int = Field(default=5, ge=1)
    """Items with fewer training interactions are neither recommended nor counted as truth."""


def read_dataset_config(path: Path) -> DatasetConfig:
    """Read and validate a dataset description.

    Raises:
        DatasetError: the file is missing, not TOML, or a key is unknown, missing or invalid.
    """
    if not path.is_file():
        raise DatasetError(f"{path} does not exist; write one as docs/data.md shows")
    try:
        raw = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not valid TOML: {error}") from error
    try:
        return DatasetConfig.model_validate(raw)
    except ValidationError as error:
        raise DatasetError(f"{path}: {first_fault(error, DatasetConfig)}") from error
