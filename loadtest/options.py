"""Options of a load test, as Locust's command line takes them."""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

from loadtest.population import Population, made_up, population, read_user_ids
from loadtest.presets import DEFAULT_STEP_S, Preset, Scale
from loadtest.slo import Objective, read_objectives
from loadtest.step import LoadError
from loadtest.traffic import Traffic

API_KEY = "CASCADE_API_KEY"
DEADLINE = "X-Deadline-Ms"


class Options(NamedTuple):
    """What was chosen, checked."""

    preset: Preset
    scale: Scale
    traffic: Traffic
    population: Population
    objectives: tuple[Objective, ...]
    seed: int
    html: Path | None
    json: Path | None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ours to Locust's."""
    group = parser.add_argument_group("load test of a cascade server")
    group.add_argument("--preset", default="", help=f"one of {', '.join(Preset)}")
    group.add_argument("--rate", type=float, help="visits a second; see docs/loadtest.md")
    group.add_argument("--step-s", type=float, help="length of a step in seconds")
    group.add_argument("--closed-users", type=int, default=16, help="users of the closed loop")
    group.add_argument("--users-from", default="", help="file of user ids, most frequent first")
    group.add_argument("--made-up-users", type=int, default=5000, help="without --users-from")
    group.add_argument("--num", type=int, default=20, help="items to ask for")
    group.add_argument("--buying-share", type=float, default=0.3, help="visits that buy")
    group.add_argument("--think-s", type=float, default=0.2, help="mean time before buying")
    group.add_argument("--within-ms", type=float, default=100.0, help="in time, for goodput")
    group.add_argument("--timeout-s", type=float, default=5.0, help="after which to give up")
    group.add_argument("--deadline-ms", type=int, help=f"sent as {DEADLINE}")
    group.add_argument("--load-seed", type=int, default=7, help="of arrivals, users, purchases")
    group.add_argument("--slo", default="", help="objectives that decide the exit code")
    group.add_argument("--report-html", default="", help="write the report here")
    group.add_argument("--report-json", default="", help="write the results here")


def read_options(found: argparse.Namespace) -> Options:
    """Check what was given.

    Raises:
        LoadError: a value breaks its rule, or a file cannot be read.
    """
    if found.preset not in set(Preset):
        raise LoadError(f"--preset {found.preset!r} must be one of {', '.join(Preset)}")
    preset = Preset(found.preset)
    for name in ("rate", "step_s", "within_ms", "timeout_s", "deadline_ms", "closed_users", "num"):
        _check(name, getattr(found, name), lowest=None)
    _check("think_s", found.think_s, lowest=0.0)
    _check("buying_share", found.buying_share, lowest=0.0, highest=1.0)
    step_s = found.step_s or DEFAULT_STEP_S[preset]
    return Options(
        preset=preset,
        scale=Scale(step_s, found.rate, found.closed_users),
        traffic=read_traffic(found),
        population=read_population(found),
        objectives=read_objectives(Path(found.slo)) if found.slo else (),
        seed=found.load_seed,
        html=Path(found.report_html) if found.report_html else None,
        json=Path(found.report_json) if found.report_json else None,
    )


def read_traffic(found: argparse.Namespace) -> Traffic:
    """What visits ask for, with the headers that every request carries."""
    headers = {}
    if key := os.environ.get(API_KEY):
        headers["Authorization"] = f"Bearer {key}"
    if found.deadline_ms:
        headers[DEADLINE] = str(found.deadline_ms)
    return Traffic(
        num=found.num,
        buying_share=found.buying_share,
        think_s=found.think_s,
        within_ms=found.within_ms,
        timeout_s=found.timeout_s,
        headers=headers,
    )


def read_population(found: argparse.Namespace) -> Population:
    """Who visits.

    Raises:
        LoadError: the file of users cannot be read, or nobody is left.
    """
    if found.users_from:
        return population(read_user_ids(Path(found.users_from)))
    _check("made_up_users", found.made_up_users, lowest=None)
    return population(made_up(found.made_up_users))


def _check(
    name: str, value: float | None, *, lowest: float | None, highest: float | None = None
) -> None:
    """Above 0, or at least `lowest`; at most `highest`; always finite."""
    if value is None:
        return
    above = value > 0 if lowest is None else value >= lowest
    if above and value < float("inf") and (highest is None or value <= highest):
        return
    rule = "above 0" if lowest is None else f"at least {lowest:g}"
    limit = "" if highest is None else f" and at most {highest:g}"
    raise LoadError(f"--{name.replace('_', '-')} {value:g} must be {rule}{limit}")
