"""How many requests a second are trained on, beside the published form of the same models.

    make bench TARGET=training ARGS='--out docs/benchmarks'

Contenders take turns, step by step, on the same batches; medians are over steps, ratios over turns.
"""

import gc
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import torch
from rich.progress import track

from benchmarks.hardware import machine, versions
from benchmarks.training.contenders import (
    Contender,
    batches,
    open_log,
    ours,
    published,
    vocabularies,
)
from benchmarks.training.table import Row, page
from benchmarks.training.vocabulary import REAL_ROWS, growth
from training.kernels.library import library
from training.recflow.config import RecFlowConfig
from training.recflow.log import PreparedLog

WARM_UP = 2


class Setting(NamedTuple):
    """What is trained."""

    batch_size: int
    negatives: int


SETTINGS = (Setting(128, 0), Setting(1024, 0), Setting(1024, 40))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("var/bench/recflow"),
    show_default=True,
    help="Prepared log; made there if there is none.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of training.md.")
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=REAL_ROWS,
    show_default=True,
    help="Largest table: the videos and authors of RecFlow.",
)
def main(data: Path, out: Path | None, rounds: int, threads: int, rows: int) -> None:  # fmt: skip
    """Time training."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    about = (
        machine(),
        versions("numpy"),
        f"{threads} threads; {'compiled kernels' if library() else 'kernels in torch operations'}",
        f"medians of {rounds} turns",
    )
    log = open_log(data)
    found: list[Row] = []
    for setting in track(SETTINGS, "steps"):
        found += compare(log, setting, rounds)
    loader = requests_a_second(log, threads=1)
    text = page(about, found, loader, growth(log, rows, rounds))
    click.echo(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "training.md").write_text(text)


def compare(log: PreparedLog, setting: Setting, rounds: int) -> Iterator[Row]:
    """Rows of one setting: the published form, ours, ours in bfloat16."""
    config = RecFlowConfig(name="bench", batch_size=setting.batch_size, negatives=setting.negatives)
    contenders: list[Contender] = [
        published(vocabularies(log)),
        ours(log, config, "here"),
        ours(log, config.model_copy(update={"precision": "bfloat16"}), "here, bfloat16"),
    ]
    times = take_turns(log, config, contenders, rounds)
    for contender, seconds in zip(contenders, times, strict=True):
        ratios = [slow / fast for slow, fast in zip(times[0], seconds, strict=True)]
        yield Row(
            setting.batch_size,
            setting.negatives,
            contender.name,
            setting.batch_size / statistics.median(seconds),
            statistics.median(ratios),
        )


def take_turns(
    log: PreparedLog, config: RecFlowConfig, contenders: Sequence[Contender], rounds: int
) -> list[list[float]]:
    """Seconds of each contender's steps, batch included; one a round."""
    stream = batches(log, config)
    times: list[list[float]] = [[] for _ in contenders]
    for turn in range(WARM_UP + rounds):
        for contender, seconds in zip(contenders, times, strict=True):
            gc.collect()
            started = time.perf_counter()
            contender.step(stream.batch(turn % (stream.steps - 1)))
            if turn >= WARM_UP:
                seconds.append(time.perf_counter() - started)
    return times


def requests_a_second(log: PreparedLog, threads: int) -> float:
    """Requests that the loader alone gives in a second, in batches of 1024."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        stream = batches(log, RecFlowConfig(name="bench"))
        stream.batch(0)
        started = time.perf_counter()
        steps = range(stream.steps - 1)
        for step in steps:
            stream.batch(step)
        return len(steps) * 1024 / (time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    main()
