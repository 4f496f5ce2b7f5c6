"""Delivery: the results of a test, printed and written, and the exit code they come to."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest.options import Options
from loadtest.page import Heading, render
from loadtest.result import StepResult, to_json
from loadtest.slo import Check, check
from loadtest.terminal import print_results
from loadtest.wording import sentences

MET, MISSED, INVALID = 0, 1, 2
"""Exit codes: objectives met, one missed, the test could not be run to its end."""
_WIDTH = 150
"""Of tables that go into a file or a pipe, so that no number is cut off."""


def deliver(results: Sequence[StepResult], options: Options, host: str) -> int:
    """Print and write the results; the exit code."""
    checks = check(options.objectives, results)
    said = sentences(results, options.traffic.within_ms)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, emoji=False, markup=False)
    print_results(console, results, checks, said)
    heading = Heading(options.preset, host, datetime.now(UTC), options.traffic.within_ms)
    if options.json:
        found = {**_about(heading, options), **to_json(results), "objectives": _checks(checks)}
        _write(options.json, json.dumps(found, indent=1) + "\n")
    if options.html:
        _write(options.html, render(heading, results, checks, said))
    return MET if all(found.met for found in checks) else MISSED


def _about(heading: Heading, options: Options) -> dict[str, Any]:
    traffic = options.traffic
    return {
        "preset": heading.preset,
        "server": heading.host,
        "ended": heading.ended.isoformat(timespec="seconds"),
        "traffic": {
            "num": traffic.num,
            "users": len(options.population.user_ids),
            "buying_share": traffic.buying_share,
            "think_s": traffic.think_s,
            "within_ms": traffic.within_ms,
            "timeout_s": traffic.timeout_s,
            "seed": options.seed,
        },
    }


def _checks(checks: Sequence[Check]) -> list[dict[str, Any]]:
    rows = [{**found._asdict(), "met": found.met} for found in checks]
    for row in rows:
        row["measured"] = row["measured"] if row["measured"] == row["measured"] else None
    return rows


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"written: {path}")
