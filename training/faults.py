"""What is wrong with a configuration, in one line: key, value, rule and remedy."""

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault pydantic found in a configuration of type `model`."""
    fault, *others = error.errors()
    if fault["type"] == "missing":
        # What is missing may be there under a name that is nearly right.
        beside = [other for other in others if other["loc"][:-1] == fault["loc"][:-1]]
        fault = next((other for other in beside if other["type"] == "extra_forbidden"), fault)
    where, message = _where(fault["loc"]), fault["msg"].removeprefix("Value error, ")
    if not where:
        return message
    if fault["type"] == "missing":
        return f"{where} is missing; {_known(model, fault['loc'])}"
    if fault["type"] == "extra_forbidden":
        return f"{where} is an unknown key; {_known(model, fault['loc'])}"
    return f"{where} = {fault['input']!r}: {message}"


def _where(loc: Sequence[int | str]) -> str:
    """A key as a reader would name it: `stages[0].keep`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return "".join(parts).removeprefix(".")


def _known(model: type[BaseModel], loc: Sequence[int | str]) -> str:
    section = model
    for part in loc[:-1]:
        if isinstance(part, str):
            section = _section(section.model_fields[part].annotation)
    close = difflib.get_close_matches(str(loc[-1]), section.model_fields, n=1)
    if close and close[0] != loc[-1]:
        return f"did you mean {close[0]}?"
    return f"the keys are {', '.join(section.model_fields)}"


def _section(annotation: Any) -> type[BaseModel]:  # noqa: ANN401
    """The model of a section: the annotation itself, or what is in a list or beside None."""
    parts = (annotation, *get_args(annotation))
    return next(part for part in parts if isinstance(part, type) and issubclass(part, BaseModel))
