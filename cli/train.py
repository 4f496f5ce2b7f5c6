"""Offline: from prepared data to a bundle."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import click

from cli.command import (
    DATA_DIR,
    LOG,
    PREPARED,
    RECFLOW,
    data_option,
    main,
    path_option,
    use_all_cores,
)


@main.command()
@click.argument("name", metavar="[CONFIG]", required=False)
@click.option("--config", metavar="CONFIG", help="The same as the argument.")
@path_option("--data", f"What to train on, made by `cascade data`.  [default: {PREPARED}]")
@path_option("--out", "Run folder.  [default: var/runs/NAME of the configuration]")
@click.option("--seed", type=click.IntRange(min=0), help="Instead of the configuration's.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Instead of the configuration's."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in the run folder.")
@click.option("--overwrite", is_flag=True, help="Remove the run in the run folder first.")
@click.option("--profile", is_flag=True, help="Tell where the time goes. Only for RecFlow.")
@click.option("--tensorboard", is_flag=True, help="Write its events too. Only for RecFlow.")
def train(
    name: str | None,
    config: str | None,
    data: Path | None,
    out: Path | None,
    seed: int | None,
    settings: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    profile: bool,
    tensorboard: bool,
) -> None:
    r"""Train a cascade.

    CONFIG is the path of a .toml file, or the name of one that comes with the package: baseline
    (each stage alone) and dftopk (both as one network) train on purchases; recflow_dftopk,
    recflow_bce and recflow_lcron on the log of a cascade. A key in a section is SECTION.KEY. The
    run folder gets checkpoints, metrics and a learning curve; a run that was cut off goes on with
    --resume, and ends as if it had not been.

    \b
    Examples:
      cascade train dftopk
      cascade train dftopk --set train_requests=12000 --seed 1 --out var/runs/dftopk-1
      cascade train recflow_dftopk --set loss.tau=2 --data var/data/recflow/prepared
      torchrun --nproc-per-node 2 -m cli train recflow_dftopk
    """
    from training.config import config_kind, config_path

    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    if (name is None) == (config is None):
        raise click.UsageError("give one CONFIG, as an argument or with --config")
    path = config_path(name or config or "")
    overrides: dict[str, Any] = dict(_key_and_value(text) for text in settings)
    if seed is not None:
        overrides["seed"] = seed
    use_all_cores()
    kept = {"resume": resume, "overwrite": overwrite}
    if config_kind(path) == "recflow":
        _train_on_log(path, overrides, data or LOG, out, profile, tensorboard=tensorboard, **kept)
        return
    for option, given in (("--profile", profile), ("--tensorboard", tensorboard)):
        if given:
            raise click.UsageError(f"{option} is for configurations with kind = 'recflow'")
    _train_on_purchases(path, overrides, data or PREPARED, out, **kept)


def _train_on_purchases(
    path: Path, overrides: dict[str, Any], data: Path, out: Path | None, **kept: bool
) -> None:
    from training.config import read_config
    from training.data.dataset import PreparedDataset
    from training.progress import training_bar
    from training.trainer import train as run_training

    chosen = read_config(path, overrides)
    dataset = PreparedDataset(data)
    with training_bar(chosen.name) as progress:
        result = run_training(
            dataset, chosen, out or DATA_DIR / "runs" / chosen.name, progress=progress, **kept
        )
    click.echo(
        f"{result.folder}: {result.step} of {result.steps} steps in {result.seconds:.0f} s; best "
        f"at step {result.best.step}: recall@20 {result.best.recall:.4f}, "
        f"revenue@20 {result.best.revenue_share:.4f} on validation"
    )


def _train_on_log(
    path: Path,
    overrides: dict[str, Any],
    data: Path,
    out: Path | None,
    profile: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    from training.config import read_recflow_config
    from training.progress import log_training_bar
    from training.recflow.log import PreparedLog
    from training.recflow.profile import Profile
    from training.recflow.trainer import train as run_training

    chosen = read_recflow_config(path, overrides)
    log = PreparedLog(data)
    found = Profile() if profile else None
    folder = out or DATA_DIR / "runs" / chosen.name
    # torchrun starts the same command in several processes; one of them talks.
    if os.environ.get("RANK", "0") != "0":
        run_training(log, chosen, folder, **options)
        return
    with log_training_bar(chosen.name) as progress:
        result = run_training(log, chosen, folder, progress=progress, profile=found, **options)
    click.echo(
        f"{result.folder}: {result.steps} steps, {result.requests:,} requests in "
        f"{result.seconds:.0f} s; loss {result.loss:.4f}, joint recall {result.recall:.4f} at the "
        "end of training; measure it with `cascade evaluate`"
    )
    if found is not None:
        click.echo(found.render())


@main.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@path_option(
    "--data", f"What they were trained on.  [default: what a run on a log remembers, or {PREPARED}]"
)
@click.option(
    "--split", type=click.Choice(["validation", "test"]), help="Of purchases.  [default: test]"
)
@click.option(
    "--protocol", type=click.Choice(["strict", "paper"]), help="Of a log.  [default: strict]"
)
@click.option("--day", help="Of a log.  [default: the day after the last of training]")
@click.option("--limit", type=click.IntRange(min=1), help="Most requests, evenly spaced.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def evaluate(
    runs: tuple[Path, ...],
    data: Path | None,
    split: str | None,
    protocol: Literal["paper", "strict"] | None,
    day: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    r"""Measure runs.

    RUNS are run folders. Runs on purchases stand beside the yardsticks, popularity and personal
    frequency. Runs on the log of a cascade are measured on the day after their training: strict
    honours masks and ties, paper counts as RecFlow's benchmark does. Every gain is paired, request
    by request, with its 95 % interval; runs that differ by their seed alone are put together.

    \b
    Examples:
      cascade evaluate var/runs/baseline var/runs/dftopk
      cascade evaluate var/runs/recflow-dftopk --protocol paper --json
    """
    use_all_cores()
    on_log = [_is_on_log(run) for run in runs]
    if any(on_log) and not all(on_log):
        raise click.UsageError("some of these runs are on purchases, some on a log; give one kind")
    foreign = {"--split": split} if any(on_log) else {"--protocol": protocol, "--day": day}
    for option, value in foreign.items():
        if value is not None:
            raise click.UsageError(f"{option} {value} is not for runs of this kind")
    if any(on_log):
        _evaluate_on_log(runs, data, protocol or "strict", day, limit, as_json=as_json)
    else:
        _evaluate_on_purchases(runs, data or PREPARED, split or "test", limit, as_json=as_json)


def _evaluate_on_purchases(
    runs: tuple[Path, ...], data: Path, split: str, limit: int | None, *, as_json: bool
) -> None:
    from training.data.dataset import PreparedDataset, Split
    from training.evaluation import evaluate as measure
    from training.progress import evaluation_bars
    from training.scoreboard import render

    dataset = PreparedDataset(data)
    with evaluation_bars() as advance:
        found = measure(runs, dataset, Split(split), limit=limit, advance=advance)
    click.echo(found.model_dump_json(indent=1) if as_json else render(found))


def _evaluate_on_log(
    runs: tuple[Path, ...],
    data: Path | None,
    protocol: Literal["paper", "strict"],
    day: str | None,
    limit: int | None,
    *,
    as_json: bool,
) -> None:
    from training.progress import evaluation_bars
    from training.recflow.evaluation import evaluate as measure
    from training.recflow.log import PreparedLog
    from training.recflow.run import read_run
    from training.recflow.scoreboard import render

    log = PreparedLog(data or read_run(runs[0]).data)
    with evaluation_bars() as advance:
        found = measure(runs, log, protocol, day=day, limit=limit, advance=advance)
    click.echo(found.model_dump_json(indent=1) if as_json else render(found))


def _is_on_log(run: Path) -> bool:
    """Whether a run trained on a log; what cannot be read is left to those who will say why."""
    try:
        kind = json.loads((run / "run.json").read_bytes())["config"]["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(kind == RECFLOW)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@data_option
@path_option("--out", "Folder of the bundle.  [default: var/bundles/NAME of the run folder]")
def export(run: Path, data: Path, out: Path | None) -> None:
    r"""Make a bundle of a run: what the server loads.

    \b
    Example:
      cascade export var/runs/dftopk --out var/bundles/dftopk
    """
    from training.data.dataset import PreparedDataset
    from training.export import export as write

    dataset = PreparedDataset(data)
    bundle = write(run, dataset, out or DATA_DIR / "bundles" / run.resolve().name)
    megabytes = sum(file.stat().st_size for file in bundle.path.iterdir()) / 1e6
    manifest = bundle.manifest
    click.echo(f"{bundle.path}: {manifest.name}@{manifest.version}, {megabytes:.1f} MB")


def _key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} must be KEY=VALUE", param_hint="--set")
    return key.strip(), value.strip()
