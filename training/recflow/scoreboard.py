"""Scoreboard: an evaluation on RecFlow as plain text, 100 columns wide."""

from rich import box
from rich.console import Console
from rich.table import Table

from training.intervals import Estimate
from training.recflow.evaluation import ConfigScore, LogEvaluation, RunScore

_COLUMNS = 100


def render(evaluation: LogEvaluation) -> str:
    """Every run, then every configuration, then what each gains over the first one."""
    console = Console(width=_COLUMNS, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(_scores("Runs, ± half a 95 % interval over users", evaluation.runs))
        if any(len(one.seeds) > 1 for one in evaluation.configs):
            title = "Configurations, ± half a 95 % interval over seeds"
            console.print(_scores(title, evaluation.configs))
        if any(one.gain for one in evaluation.configs):
            console.print(_gains(evaluation))
        for line in sorted({_sample(run) for run in evaluation.runs}):
            console.print(
                f"{line}, {evaluation.day} of {evaluation.log}, {evaluation.protocol} protocol."
            )
    return capture.get()


def _scores(title: str, scores: tuple[RunScore, ...] | tuple[ConfigScore, ...]) -> Table:
    """One line a stage; the joint recall stands in the first."""
    table = Table(title=title, box=box.SIMPLE_HEAD, expand=True)
    table.add_column("Run" if isinstance(scores[0], RunScore) else "Configuration")
    for name in ("joint recall", "stage", "keeps", "recall", "NDCG@10"):
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
    for score in scores:
        name = score.run if isinstance(score, RunScore) else _with_seeds(score)
        first = (name, _with_margin(score.joint_recall))
        for stage in score.stages:
            measures = (_with_margin(stage.recall), _with_margin(stage.ndcg))
            table.add_row(*first, stage.name, str(stage.keep), *measures)
            first = ("", "")
    return table


def _gains(evaluation: LogEvaluation) -> Table:
    title = f"Joint recall more than {evaluation.configs[0].config}, request by request"
    table = Table(title=title, box=box.SIMPLE_HEAD, expand=True)
    table.add_column("Configuration")
    for name in ("joint recall", "95 % interval", "over"):
        table.add_column(name, justify="right", no_wrap=True)
    for score in evaluation.configs:
        if score.gain is None:
            continue
        found = score.gain.estimate
        interval = "n/a"
        if found.low is not None and found.high is not None:
            interval = f"{found.low:+.4f} to {found.high:+.4f}"
        over = "users and seeds" if score.gain.over_seeds else "users of these runs"
        table.add_row(_with_seeds(score), f"{found.value:+.4f}", interval, over)
    return table


def _sample(run: RunScore) -> str:
    line = f"{run.requests:,} requests of {run.users:,} users"
    if run.left_out:
        line += f", {run.left_out:,} without a candidate left out"
    return line


def _with_seeds(score: ConfigScore) -> str:
    count = len(score.seeds)
    return f"{score.config} ({count} seed{'s' if count > 1 else ''})"


def _with_margin(estimate: Estimate) -> str:
    if estimate.high is None:
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f} ± {estimate.high - estimate.value:.4f}"
