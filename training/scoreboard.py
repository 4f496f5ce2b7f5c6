"""Scoreboard: an evaluation as plain text, 100 columns wide."""

from rich import box
from rich.console import Console
from rich.table import Table

from training.evaluation import Evaluation, Score
from training.intervals import Estimate
from training.yardsticks import PERSONAL_FREQUENCY

_COLUMNS = 100


def render(evaluation: Evaluation) -> str:
    """Every policy's measures, then what each model gains over personal frequency."""
    console = Console(width=_COLUMNS, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(_measures(evaluation))
        models = [score for score in evaluation.scores if score.recall_gain is not None]
        if models:
            console.print(_gains(models))
        console.print(
            f"{evaluation.requests:,} requests of {evaluation.users:,} users, {evaluation.split} "
            f"period of {evaluation.dataset}. ± is half a 95 % interval over users."
        )
    return capture.get()


def _measures(evaluation: Evaluation) -> Table:
    table = Table(title="Twenty items a request", box=box.SIMPLE_HEAD, expand=True)
    table.add_column("Policy")
    per_request = f"{evaluation.currency} a request"
    for name in ("recall@20", "revenue@20", per_request, "candidate recall"):
        table.add_column(name, justify="right")
    for score in evaluation.scores:
        reached = score.candidate_recall
        table.add_row(
            score.name,
            _with_margin(score.recall, 4),
            _with_margin(score.revenue_share, 4),
            _with_margin(score.revenue_per_request, 2),
            "" if reached is None else f"{reached:.3f}",
        )
    return table


def _gains(models: list[Score]) -> Table:
    title = f"Gain over {PERSONAL_FREQUENCY}, request by request"
    table = Table(title=title, box=box.SIMPLE_HEAD, expand=True)
    table.add_column("Policy")
    for name in ("recall@20", "95 % interval", "revenue@20", "95 % interval"):
        table.add_column(name, justify="right")
    for score in models:
        assert score.recall_gain is not None
        assert score.revenue_share_gain is not None
        gains = (score.recall_gain, score.revenue_share_gain)
        table.add_row(score.name, *(text for gain in gains for text in _gain(gain)))
    return table


def _with_margin(estimate: Estimate, digits: int) -> str:
    if estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} ± {estimate.high - estimate.value:.{digits}f}"


def _gain(estimate: Estimate) -> tuple[str, str]:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:+.4f}", "n/a"
    return f"{estimate.value:+.4f}", f"{estimate.low:+.4f} to {estimate.high:+.4f}"
