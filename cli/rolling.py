"""Rolling evaluation: trained until a day, tested on the next, for several days."""

from pathlib import Path

import click

from cli.command import DATA_DIR, LOG, main, path_option, use_all_cores


@main.command()
@click.argument("config")
@path_option("--data", "Prepared log, made by `cascade data recflow`.", LOG)
@path_option("--out", "Folder of the runs.  [default: var/runs/NAME-rolling]")
@click.option(
    "--first", type=click.IntRange(min=1), default=1, show_default=True,
    help="Days that the first run is trained on; each further one gets a day more.",
)  # fmt: skip
@click.option("--protocol", type=click.Choice(["strict", "paper"]), default="strict")
def rolling(config: str, data: Path, out: Path | None, first: int, protocol: str) -> None:
    r"""Train on days 1 to d of a log and test on day d + 1, for every d.

    Tells whether a loss holds on later days. A finished run is not trained again.

    \b
    Example:
      cascade rolling recflow_conditional --first 2
    """
    from training.config import config_path, read_recflow_config
    from training.progress import evaluation_bars, log_training_bar
    from training.recflow.evaluation import evaluate, rolling_days
    from training.recflow.log import PreparedLog
    from training.recflow.run import CHECKPOINT
    from training.recflow.trainer import train

    path, log = config_path(config), PreparedLog(data)
    use_all_cores()
    for last, test in rolling_days(log, first):
        chosen = read_recflow_config(path, {"last_train_day": last})
        run = (out or DATA_DIR / "runs" / f"{chosen.name}-rolling") / last
        with log_training_bar(f"until {last}") as progress:
            train(log, chosen, run, resume=(run / CHECKPOINT).is_file(), progress=progress)
        with evaluation_bars() as advance:
            found = evaluate([run], log, protocol, advance=advance)  # type: ignore[arg-type]
        recall = found.runs[0].joint_recall
        margin = "" if recall.low is None else f" ± {recall.value - recall.low:.4f}"
        click.echo(f"{test}: joint recall {recall.value:.4f}{margin}")
