"""One measured step, in a process of its own, so that its memory is told by the system."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from abtest.analysis.metric import Kind
from abtest.analysis.metrics_file import load_metrics
from abtest.analysis.readings.readings import read
from abtest.analysis.readings.rollup import update
from abtest.analysis.readings.subject import Subject
from abtest.report.making import Archive, make
from abtest.report.trial import trial
from abtest.split.config import parse_config
from benchmarks.report.log import EXPERIMENTS, KEY, VARIANTS


class Cost(NamedTuple):
    """What a step took."""

    wall_s: float
    cpu_s: float
    """Processor time of all threads."""
    peak_mb: float
    """Largest resident memory of the process, its libraries included."""


class Place(NamedTuple):
    """Where the events and the rollups lie."""

    events: Path
    rollups: Path


def roll_up(place: Place) -> None:
    """Bring the rollups up to date."""
    update(place.events, place.rollups, load_metrics())


def read_inputs(place: Place) -> None:
    """All a report asks for: counts, each metric of each variant, the first one day by day."""
    metrics = load_metrics()
    readings = read(place.events, place.rollups, Subject(KEY, 1, VARIANTS), metrics)
    primary = metrics["revenue_per_unit"]
    for variant in VARIANTS:
        for metric in metrics.values():
            take = readings.values if metric.kind is Kind.QUANTILE else readings.sample
            take(metric, variant)
        for day in readings.days:
            readings.sample(primary, variant, until=day)
            readings.sample(primary, variant, until=day, since=day)
        for country in readings.segment_values("country"):
            readings.sample(primary, variant, segment=("country", country))


def make_report(place: Place) -> None:
    """The report, as the background process makes it."""
    archive = Archive(place.events, place.rollups, load_metrics(), None)
    make(archive, trial(parse_config(EXPERIMENTS), KEY), as_of=datetime.now(UTC))


STEPS: Final = {"roll_up": roll_up, "read_inputs": read_inputs, "make_report": make_report}


def measure(step: str, place: Place) -> Cost:
    """Run one of `STEPS` in a fresh process."""
    words = [sys.executable, "-m", "benchmarks.report.step", step, *map(str, place)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(*json.loads(done.stdout))


def measure_command(module: str, *words: str) -> Cost:
    """Run a module's command to its end.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    start = time.perf_counter()
    command = [sys.executable, "-m", module, *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    wall_s = time.perf_counter() - start
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _measured(step: Callable[[Place], None], place: Place) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    step(place)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    # Not getrusage: what it tells of a process includes the one that started it.
    status = Path("/proc/self/status").read_text()
    peak_kb = status.partition("VmHWM:")[2].split(maxsplit=1)[0]
    return Cost(wall, cpu, int(peak_kb) / 1024)


if __name__ == "__main__":
    name, events, rollups = sys.argv[1:]
    json.dump(_measured(STEPS[name], Place(Path(events), Path(rollups))), sys.stdout)
