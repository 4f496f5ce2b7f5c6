"""Condition: whom an experiment is for, by the context of the request."""

from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from abtest.split.part import Frozen, Text

Matcher = Callable[[Mapping[str, str]], bool]
"""Whether a request with this context is meant."""


class Condition(Frozen):
    """What a field of the request's context must be; what is given must hold together.

    A field that the request does not have fulfils nothing but `none_of`.
    """

    one_of: tuple[Text, ...] | None = Field(default=None, max_length=1000)
    none_of: tuple[Text, ...] | None = Field(default=None, max_length=1000)
    at_least: float | None = None
    """Of a field that is a number; one that is not fulfils nothing."""
    below: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _values_may_stand_alone(cls, raw: Any) -> Any:  # noqa: ANN401  # not checked yet
        if isinstance(raw, str):
            return {"one_of": (raw,)}
        return {"one_of": raw} if isinstance(raw, list | tuple) else raw

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.one_of or self.none_of) and self.at_least is None and self.below is None:
            raise ValueError(
                "a condition with nothing in it; give one_of, none_of, at_least or below, "
                "or remove it"
            )
        if self.at_least is not None and self.below is not None and self.at_least >= self.below:
            raise ValueError(
                f"at_least = {self.at_least:g} and below = {self.below:g} leave nobody; "
                "at_least must be less than below"
            )
        both = sorted(set(self.one_of or ()) & set(self.none_of or ()))
        if both:
            raise ValueError(f"{both} stand in one_of and in none_of; remove them from one")
        return self


def matcher(when: Mapping[str, Condition]) -> Matcher | None:
    """Compile conditions; None where there are none."""
    if not when:
        return None
    compiled = tuple(
        (
            field,
            None if condition.one_of is None else frozenset(condition.one_of),
            frozenset(condition.none_of or ()),
            condition.at_least,
            condition.below,
        )
        for field, condition in when.items()
    )

    def matches(attributes: Mapping[str, str]) -> bool:
        for field, one_of, none_of, at_least, below in compiled:
            value = attributes.get(field)
            if value is None:
                if one_of is not None or at_least is not None or below is not None:
                    return False
            elif (
                value in none_of
                or (one_of is not None and value not in one_of)
                or (
                    (at_least is not None or below is not None)
                    and not _between(value, at_least, below)
                )
            ):
                return False
        return True

    return matches


def _between(value: str, at_least: float | None, below: float | None) -> bool:
    """Whether `value` is a number in the range; NaN is in none."""
    try:
        number = float(value)
    except ValueError:
        return False
    return (at_least is None or number >= at_least) and (below is None or number < below)
