"""Run folder: what the folders of all trainers have in common.

`run.json` says what is trained on which data, so that a run that was cut off goes on as itself.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from training.durable import write_file
from training.faults import first_fault

RUN = "run.json"

Record = TypeVar("Record", bound=BaseModel)


class TrainError(ValueError):
    """A run that cannot be started, resumed or read; the message names folder, rule and remedy."""


class DivergenceError(TrainError):
    """A run whose loss is not finite any more; the message names step, settings and remedy."""


def empty_folder(folder: Path, *, overwrite: bool) -> None:
    """Make an empty folder for a new run.

    Args:
        folder: of the run, made if missing.
        overwrite: a run the folder holds is removed.

    Raises:
        TrainError: the folder is not empty, and is not to be overwritten or holds no run.
    """
    filled = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if filled and not overwrite:
        raise TrainError(
            f"{folder} is not empty; add --resume to go on with the run in it, or --overwrite to "
            "start anew"
        )
    if filled and not (folder / RUN).is_file():
        raise TrainError(f"{folder} holds files but no run, so it is kept; choose another --out")
    if filled:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def write_record(folder: Path, record: BaseModel) -> None:
    """Write what a folder trains."""
    write_file(folder / RUN, (record.model_dump_json(indent=1) + "\n").encode())


def read_record(folder: Path, model: type[Record]) -> Record:
    """What a folder trains.

    Raises:
        TrainError: it holds no run of this kind.
    """
    if not (folder / RUN).is_file():
        raise TrainError(f"{folder} holds no {RUN}; make a run with `cascade train`")
    try:
        return model.model_validate_json((folder / RUN).read_bytes())
    except ValidationError as error:
        raise TrainError(
            f"{folder / RUN}: {first_fault(error, model)}; train again with --overwrite"
        ) from error


def check_data(folder: Path, found: tuple[str, str], given: tuple[str, str]) -> None:
    """A run stays with its data; both sides are name and fingerprint.

    Raises:
        TrainError: they differ.
    """
    if found[1] != given[1]:
        raise TrainError(
            f"{folder} was trained on {found[0]} {found[1][:12]}, the data given is {given[0]} "
            f"{given[1][:12]}; resume with the same --data"
        )


def check_config(folder: Path, found: BaseModel, given: BaseModel) -> None:
    """A run stays with its configuration.

    Raises:
        TrainError: they differ; the message names the first key that does.
    """
    old, new = (dict(_settings(config.model_dump())) for config in (found, given))
    for name in (*old, *new):
        if old.get(name) != new.get(name):
            raise TrainError(
                f"{folder} was started with {name} = {old.get(name)!r}, the configuration says "
                f"{new.get(name)!r}; resume with the same one, or start anew with --overwrite"
            )


def _settings(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values by key; `loss.tau` is tau of the section loss."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in _settings(value))
        else:
            yield name, value


def load_state(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """Read a file of tensors.

    Args:
        path: what `torch.save` wrote.
        mapped: leave the tensors on disk until they are read.

    Raises:
        TrainError: it cannot be read.
    """
    try:
        raw: dict[str, Any] = torch.load(path, weights_only=True, mmap=mapped)
    except Exception as error:  # whatever unpickling a damaged file raises
        raise TrainError(
            f"{path} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]}); it is "
            "damaged, train again with --overwrite"
        ) from error
    return raw
