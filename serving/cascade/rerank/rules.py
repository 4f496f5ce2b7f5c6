"""Rules: what the shop itself wants of every answer, in the file `rules.toml`.

Pins put an item at a place, boosts multiply the value of items, caps bound how many places items of
a kind get, blocks keep items out. Every rule has a name, and may hold only for a time and only in
some contexts. They are the same for all bundles and all experiments.
"""

import tomllib
from collections import Counter
from typing import Annotated, Any, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from serving.api.schemas import MAX_ITEMS, Id, Value

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Values = Annotated[tuple[Value, ...], Field(min_length=1, max_length=10_000)]


class RulesError(ValueError):
    """Rules that cannot be used; the message names place, value, rule and remedy."""


class Rule(BaseModel):
    """When a rule holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    """The rule holds from `start` until just before `end`."""
    context: dict[Id, Values] = Field(default={}, max_length=64)
    """Every field named here must have one of its values in the request's context."""

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.start and self.end and self.end <= self.start:
            raise ValueError(
                f"rule {self.name}: end {self.end.isoformat()} must be after start "
                f"{self.start.isoformat()}"
            )
        return self


class _About(Rule):
    items: Annotated[tuple[Id, ...], Field(max_length=10_000)] = ()
    fields: dict[Id, Values] = Field(default={}, max_length=64)
    """Item fields and values. An item is meant if it is listed in `items`, or if every field
    named here has one of its values."""

    @model_validator(mode="after")
    def _check_match(self) -> Self:
        if not self.items and not self.fields:
            raise ValueError(f"rule {self.name}: names no items and no fields; give it either")
        return self


class Pin(Rule):
    """An item has a place of its own, as long as it is available."""

    item: Id
    position: int = Field(ge=0, lt=MAX_ITEMS, strict=True)
    """From 0."""


class Boost(_About):
    """The value of items is multiplied."""

    factor: float = Field(gt=0, le=1000)
    """Below 1 it holds items back; to keep them out altogether, block them."""


class CapRule(Rule):
    """No value of an item field has more than `most` places."""

    field: Id
    most: int = Field(ge=1, le=MAX_ITEMS, strict=True)


class Block(_About):
    """Items are in no answer."""


class Rules(BaseModel):
    """A whole file of rules. Where two pins want the same place, the first in the file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pins: tuple[Pin, ...] = Field(default=(), max_length=1000)
    boosts: tuple[Boost, ...] = Field(default=(), max_length=1000)
    caps: tuple[CapRule, ...] = Field(default=(), max_length=100)
    blocks: tuple[Block, ...] = Field(default=(), max_length=1000)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = Counter(r.name for r in (*self.pins, *self.boosts, *self.caps, *self.blocks))
        repeated = sorted(name for name, count in names.items() if count > 1)
        if repeated:
            raise ValueError(f"rule names {repeated} occur twice; every name must be unique")
        return self


def parse_rules(text: str, source: str = "rules") -> Rules:
    """Validate rules written in TOML.

    Raises:
        RulesError: it is not TOML, has an unknown key, or breaks a rule.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"{source} is not valid TOML: {error}") from error
    try:
        return Rules.model_validate(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            message = f"{where} is no key of the rules; remove it or correct its name"
        elif fault["type"] == "value_error":
            message = fault["msg"].removeprefix("Value error, ")
        elif fault["type"] == "missing":
            message = f"{where} is missing; every rule of this kind needs it"
        else:
            message = f"{where} = {fault['input']!r}: {fault['msg']}; correct it"
        raise RulesError(f"{source}: {message}") from error
