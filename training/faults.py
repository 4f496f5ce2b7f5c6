"""What is wrong with a configuration, in one line: key, value, rule and remedy."""

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault pydantic found in a configuration of type `model`."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"{where} is missing; {_known(model, fault['loc'])}"
    if fault["type"] == "extra_forbidden":
        return f"{where} is an unknown key; {_known(model, fault['loc'])}"
    return f"{where} = {fault['input']!r}: {fault['msg'].removeprefix('Value error, ')}"


def _known(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    section: Any = model
    for part in loc[:-1]:
        section = section.model_fields[str(part)].annotation
    close = difflib.get_close_matches(str(loc[-1]), section.model_fields, n=1)
    if close and close[0] != loc[-1]:
        return f"did you mean {close[0]}?"
    return f"the keys are {', '.join(section.model_fields)}"
