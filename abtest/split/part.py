"""Part: what every part of an experiment configuration is made of, and is checked by."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Parameter = str | int | float | bool

SLOTS = 10_000
"""Slots of a layer, of the domains and of a holdout; a share of traffic is a number of slots."""
LARGEST_INTEGER = 2**53 - 1
"""Larger integers are not exact in JSON."""

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")]
Text = Annotated[str, Field(max_length=256)]
Unit = Annotated[str, Field(min_length=1, max_length=256)]
Seed = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Slots = tuple[int, int]
"""First slot and one past the last."""


def _check_parameter(value: object) -> object:
    if not isinstance(value, str | int | float) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ValueError(f"{value!r} must be a string, a finite number, true or false")
    return value


Value = Annotated[Parameter, BeforeValidator(_check_parameter)]
"""A parameter's value, checked."""


class Frozen(BaseModel):
    """A part of the configuration: never changed, only replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def check_slots(where: str, slots: Sequence[Slots]) -> None:
    """Check that ranges of slots are ranges and share no slot.

    Raises:
        ValueError: they do not.
    """
    for first, end in slots:
        if not 0 <= first < end <= SLOTS:
            raise ValueError(
                f"{where}: slots {first}..{end} must satisfy 0 <= first < end <= {SLOTS}"
            )
    for left, right in pairwise(sorted(slots)):
        if right[0] < left[1]:
            raise ValueError(
                f"{where}: slots {left[0]}..{left[1]} and {right[0]}..{right[1]} overlap; "
                "ranges must not share a slot"
            )


def check_unique(where: str, what: str, names: Iterable[str]) -> None:
    """Check that no name occurs twice.

    Raises:
        ValueError: one does.
    """
    listed = list(names)
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: {what} {listed} must be unique; remove the second {twice[0]!r}")
