"""Index: the reports of a data directory, one line each, and what each was made from."""

import os
from pathlib import Path

from pydantic import Field

from abtest.analysis.metric import Frozen
from abtest.report.model import Report, Summary

INDEX_FILE = ".index"
"""No key begins with a dot."""


class Entry(Frozen):
    """What is known of the report of one experiment or holdout."""

    made_from: str
    """Fingerprint of events and declarations; an equal one makes an equal report."""
    summary: Summary | None
    """None where there is no report yet."""
    fault: str | None = None
    """Why the newest could not be made."""


class Index(Frozen):
    """Entries by key."""

    entries: dict[str, Entry] = Field(default={})


def read_index(folder: Path) -> Index:
    """The index of a folder of reports; an empty one where there is none."""
    try:
        return Index.model_validate_json((folder / INDEX_FILE).read_bytes())
    except (FileNotFoundError, ValueError):  # of another release: every report is made anew
        return Index()


def write_index(folder: Path, index: Index) -> None:
    """Replace the index, whole or not at all."""
    _replace(folder / INDEX_FILE, index.model_dump_json())


def report_path(folder: Path, key: str) -> Path:
    """File of a report."""
    return folder / f"{key}.json"


def read_report(folder: Path, key: str) -> Report | None:
    """A report that was written; None where there is none of this release."""
    try:
        return Report.model_validate_json(report_path(folder, key).read_bytes())
    except (FileNotFoundError, ValueError):  # of another release: it is made anew
        return None


def write_report(folder: Path, report: Report) -> None:
    """Replace a report, whole or not at all."""
    _replace(report_path(folder, report.key), report.model_dump_json())


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
