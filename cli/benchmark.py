"""Comparison: every loss under the same sweep and budget."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from cli.command import LOG, PREPARED, Commands, main, path_option, use_all_cores

if TYPE_CHECKING:
    from training.leaderboard.arena import Arena
    from training.leaderboard.ledger import Ledger
    from training.leaderboard.schedule import Plan

MOST_NEGATIVES = 1000
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

F = TypeVar("F", bound=Callable[..., Any])


@main.group(cls=Commands)
def benchmark() -> None:
    r"""Compare all losses: the same sweep, budget and seeds for each, on recflow or a shop.

    \b
    Examples:
      cascade benchmark recflow --data var/data/recflow/prepared --out var/benchmark
      cascade benchmark shop --methods bce,dftopk,lcron --trials 3 --plan
    """


def _budget(command: F) -> F:
    """Options of every benchmark."""
    options = (
        path_option("--out", "Folder of trials and tables.  [default: var/benchmark/ARENA]"),
        click.option("--methods", metavar="A,B", help="Losses, or rows of it.  [default: all]"),
        click.option(
            "--trials", type=click.IntRange(1, 12), default=6, show_default=True,
            help="Settings that every method is tried at.",
        ),
        click.option(
            "--seeds", type=click.IntRange(min=1), default=3, show_default=True,
            help="Final runs of every method with its best setting.",
        ),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE",
            help="For all trials, instead of the configuration's.",
        ),
        click.option("--plan", is_flag=True, help="List trials and time, run nothing."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@benchmark.command()
@path_option("--data", "Prepared log, made by `cascade data recflow`.", LOG)
@click.option(
    "--config", default="recflow_dftopk", show_default=True, help="Stages and all that is shared."
)
@click.option(
    "--negatives", default="0,40,160,640", show_default=True, metavar="N,N",
    help="Numbers of sampled negatives to compare; empty for none.",
)  # fmt: skip
@click.option(
    "--negatives-losses", default="bce,fs_lambdaloss,lcron,dftopk", show_default=True,
    metavar="A,B", help="Compared at these numbers, the best of the others besides.",
)  # fmt: skip
@_budget
def recflow(
    data: Path, config: str, negatives: str, negatives_losses: str,
    **budget: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    r"""Compare losses on RecFlow, or on a log of its format.

    Sweeps train until the last day but two and are judged on the next one; finals train a day
    longer and are judged on the last. The same command goes on where it was stopped.

    \b
    Examples:
      cascade benchmark recflow --plan
      cascade benchmark recflow --config recflow_dftopk_three_stage --set batch_size=512
    """
    from training.config import config_path, read_recflow_config
    from training.leaderboard.recflow import RecFlowArena
    from training.recflow.log import PreparedLog

    use_all_cores()
    shared = read_recflow_config(config_path(config), _overrides(budget.pop("settings")))
    arena = RecFlowArena(PreparedLog(data), shared)
    counts = tuple(_count(text) for text in _words(negatives))
    _compare(arena, counts, _words(negatives_losses), **budget)


@benchmark.command()
@path_option("--data", "Prepared dataset, made by `cascade data`.", PREPARED)
@click.option("--config", default="dftopk", show_default=True, help="All that is shared.")
@_budget
def shop(data: Path, config: str, **budget: Any) -> None:  # noqa: ANN401
    r"""Compare losses on purchases: settings by validation, finals on the test period.

    Each stage is trained on what it meets when it serves, which some losses cannot;
    candidates.shared=true trains all of them, on one list for both stages.

    \b
    Examples:
      cascade benchmark shop --set train_requests=12000
      cascade benchmark shop --set candidates.shared=true
      cascade benchmark shop --methods bce,dftopk --trials 2 --seeds 2
    """
    from training.config import config_path, read_config
    from training.data.dataset import PreparedDataset
    from training.leaderboard.shop import ShopArena

    use_all_cores()
    shared = read_config(config_path(config), _overrides(budget.pop("settings")))
    _compare(ShopArena(PreparedDataset(data), shared), (), (), **budget)


def _compare(
    arena: "Arena",
    negatives: tuple[int, ...],
    negatives_losses: tuple[str, ...],
    *,
    out: Path | None,
    methods: str | None,
    trials: int,
    seeds: int,
    plan: bool,
) -> None:
    from training.leaderboard.ledger import Ledger
    from training.leaderboard.method import chosen
    from training.leaderboard.method import methods as all_methods
    from training.leaderboard.progress import render_plan, trials_bar
    from training.leaderboard.schedule import Plan, run, schedule

    context = click.get_current_context()
    known = tuple(row for row in all_methods() if row.loss.name in arena.losses)
    rows = known if methods is None else chosen(_words(methods), known)
    chosen(negatives_losses)
    wanted = Plan(rows, trials, seeds, negatives, negatives_losses)
    folder = out or Path("var") / "benchmark" / arena.name
    ledger = Ledger(folder, arena)
    if plan:
        click.echo(render_plan(schedule(wanted, ledger)))
        return
    try:
        with trials_bar() as watch:
            run(wanted, ledger, watch.begin, watch.advance)
    except KeyboardInterrupt:
        entries = schedule(wanted, ledger)
        done = sum(entry.result is not None for entry in entries)
        _report(context, wanted, ledger, folder)
        click.echo(
            f"stopped after {done} of {len(entries)} trials; run the same command again to go on: "
            f"{_command(context)}",
            err=True,
        )
        context.exit(INTERRUPTED)
    click.echo(_report(context, wanted, ledger, folder))


def _report(context: click.Context, plan: "Plan", ledger: "Ledger", folder: Path) -> str:
    """Write all files; the summary, and where they are."""
    from training.leaderboard.board import make_board
    from training.leaderboard.report import PAGE, write_report
    from training.leaderboard.table import summary

    board = make_board(plan, ledger, _command(context))
    folder.mkdir(parents=True, exist_ok=True)
    write_report(board, folder)
    return f"{summary(board)}\n{folder / PAGE}"


def _command(context: click.Context) -> str:
    """The command as it was given, without what is the default."""
    words = ["cascade", *context.command_path.split()[-2:]]
    for option in context.command.params:
        assert option.name is not None
        if context.get_parameter_source(option.name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[option.name]
        for one in value if option.multiple else [value]:
            words += [option.opts[0]] if one is True else [option.opts[0], shlex.quote(str(one))]
    return " ".join(words)


def _overrides(settings: tuple[str, ...]) -> dict[str, str]:
    """`--set` of keys that the benchmark leaves to the user."""
    from training.leaderboard.arena import check_shared

    found = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} must be KEY=VALUE", param_hint="--set")
        found[key.strip()] = value.strip()
    check_shared(found)
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_NEGATIVES:
        raise click.BadParameter(
            f"{text!r} must be a number in [0, {MOST_NEGATIVES}]", param_hint="--negatives"
        )
    return int(text)
