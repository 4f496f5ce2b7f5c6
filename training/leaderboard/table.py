"""Tables of a leaderboard, as a page in Markdown."""

from collections.abc import Sequence

import numpy as np

from training.intervals import Estimate
from training.leaderboard.board import REFERENCES, Board, Setting, verdict
from training.recflow.environment import Environment
from training.recflow.intervals import Gain

RECALL, NEGATIVES, COMPUTE = "recall.png", "negatives.png", "compute.png"
"""Pictures beside the page."""

_LEFT, _RIGHT = "---", "---:"


def page(board: Board) -> str:
    """The whole page, which names the pictures that lie beside it."""
    title = f"# Leaderboard: {board.title}"
    parts = [title, summary(board), _origin(board)]
    if board.rows:
        parts += [f"![{board.deciding.title} of each method]({RECALL})", _main(board)]
        parts += [
            _measures(board, name)
            for name in dict.fromkeys(measure.table for measure in board.measures)
        ]
        parts.append(_settings(board))
    if board.negatives:
        parts.append(_negatives(board))
    if any(row.curve for row in board.rows):
        parts.append(_compute(board))
    if board.unranked:
        rows = [[name, why] for name, why in board.unranked.items()]
        parts.append("## Not ranked\n\n" + _table(["Method", "Why"], rows, [_LEFT, _LEFT]))
    return "\n\n".join(parts) + "\n"


def summary(board: Board) -> str:
    """Who leads, and whom the leader is not shown to be better than."""
    if not board.rows:
        return "No method is finished yet."
    leader = board.rows[0]
    found = _with_interval(leader.measures[board.deciding.key])
    text = f"**{leader.method}** leads with {board.deciding.title} {found}."
    if len(board.rows) == 1:
        return text
    if leader.seeds == 1:
        return f"{text} One seed was run, which does not decide whether a method is better."
    level = board.level_with_leader
    if not level:
        return f"{text} It is better than every other method here."
    return f"{text} There is no difference beyond seeds to {', '.join(level)}."


def _origin(board: Board) -> str:
    lines = [f"`{board.command}`"]
    lines += [f"Data: {board.dataset}, fingerprint {board.fingerprint[:12]}.", *board.description]
    lines += [f"Finals ran on {_environment(found)}." for found in board.environments]
    if len(board.environments) > 1:
        lines.append("Their times cannot be compared, as they are not of one machine and version.")
    elif board.rows:
        lines.append("Times can be compared if nothing else ran there at that time.")
    return "\n".join(f"- {line}" for line in lines)


def _main(board: Board) -> str:
    key = board.deciding.key
    references = [
        name
        for name in REFERENCES
        if any(row.method == name for row in board.rows) and len(board.rows) > 1
    ]
    columns = ["Method", board.deciding.title, "95 % interval"]
    columns += [f"against {name}" for name in references]
    columns += ["training s", "requests/s"]
    rows = []
    for row in board.rows:
        cells = [row.method, *_estimate(row.measures[key])]
        cells += [_gain(row.gains.get(name, {}).get(key)) for name in references]
        rows.append([*cells, _number(row.seconds), f"{row.requests_per_s:,.0f}"])
    kinds = [_LEFT, _RIGHT, _RIGHT, *([_LEFT] * len(references)), _RIGHT, _RIGHT]
    seeds = board.rows[0].seeds
    note = (
        f"Mean of {seeds} {'seed' if seeds == 1 else 'seeds'}. Intervals are 95 % ones over seeds "
        "and users together (over users alone where there is one seed); differences are taken "
        "request by request on the same requests. *Better* and *worse* mean that the interval of "
        "the difference is on one side of 0; of twenty true ties about one would be called so."
    )
    return f"## {board.deciding.title}\n\n{_table(columns, rows, kinds)}\n\n{note}"


def _measures(board: Board, name: str) -> str:
    measures = [measure for measure in board.measures if measure.table == name]
    columns = ["Method", *(measure.title for measure in measures)]
    rows = [
        [row.method, *(_with_margin(row.measures[measure.key]) for measure in measures)]
        for row in board.rows
    ]
    kinds = [_LEFT, *([_RIGHT] * len(measures))]
    return f"## {name}\n\n{_table(columns, rows, kinds)}\n\n± is half of a 95 % interval."


def _settings(board: Board) -> str:
    columns = ["Method", "learning rate", "tau", "on validation", "trials", "failed"]
    rows = [[row.method, *_setting(row.setting)] for row in board.rows]
    note = (
        "Chosen by validation alone, with as many trials for one method as for the other. * marks "
        "the lowest or highest value tried: a wider sweep may find a better one."
    )
    kinds = [_LEFT, *([_RIGHT] * (len(columns) - 1))]
    return f"## Settings\n\n{_table(columns, rows, kinds)}\n\n{note}"


def _setting(setting: Setting) -> list[str]:
    rate = f"{setting.learning_rate:g}{' *' * setting.learning_rate_at_edge}"
    tau = "" if setting.tau is None else f"{setting.tau:g}{' *' * setting.tau_at_edge}"
    counts = [str(setting.trials), str(setting.failed)]
    return [rate, tau, f"{setting.validation:.4f}", *counts]


def _negatives(board: Board) -> str:
    counts = sorted({level.negatives for levels in board.negatives.values() for level in levels})
    rows = []
    for name, levels in board.negatives.items():
        found = {level.negatives: level for level in levels}
        cells = [
            f"{_with_margin(found[count].recall)}, {_number(found[count].step_ms)} ms"
            if count in found
            else ""
            for count in counts
        ]
        rows.append([name, *cells])
    table = _table(["Method", *(f"{n} negatives" for n in counts)], rows,
                   [_LEFT, *([_RIGHT] * len(counts))])  # fmt: skip
    note = (
        f"{board.deciding.title} and milliseconds a training step. One seed; ± is half of a 95 % "
        "interval over users, so small differences may be those of seeds."
    )
    heading = f"## Sampled negatives\n\n![recall and time of a step]({NEGATIVES})"
    return f"{heading}\n\n{table}\n\n{note}"


def _compute(board: Board) -> str:
    rows = [row for row in board.rows if row.curve]
    equal = min(row.curve[-1].seconds for row in rows)
    cells = []
    for row in rows:
        seconds, recalls = zip(*row.curve, strict=True)
        there = float(np.interp(equal, seconds, recalls))
        cells.append([row.method, f"{there:.4f}", f"{recalls[-1]:.4f}", _number(seconds[-1])])
    cells.sort(key=lambda line: line[1], reverse=True)
    columns = ["Method", f"after {_number(equal)} s", "at its end", "which is after, s"]
    note = (
        f"{board.curve_title}, mean over seeds, each point the mean of the last twentieth of the "
        "run. At equal seconds methods have had equal compute; the learning rates are those that "
        "were chosen for whole runs."
    )
    heading = f"## Recall against training time\n\n![over seconds]({COMPUTE})"
    return f"{heading}\n\n{_table(columns, cells, [_LEFT, *([_RIGHT] * 3)])}\n\n{note}"


def _environment(found: Environment) -> str:
    machine = found.processor if found.device == "cpu" else f"{found.device}, {found.processor}"
    threads = f"{found.threads} {'thread' if found.threads == 1 else 'threads'}"
    kernels = "with" if found.kernels else "without"
    commit = "" if found.commit is None else f", commit {found.commit}"
    return (
        f"{machine}, {threads}, {found.system}, Python {found.python}, torch {found.torch}, "
        f"{kernels} compiled kernels{commit}"
    )


def _estimate(found: Estimate) -> list[str]:
    if found.low is None or found.high is None:
        return [f"{found.value:.4f}", ""]
    return [f"{found.value:.4f}", f"{found.low:.4f} to {found.high:.4f}"]


def _with_interval(found: Estimate) -> str:
    value, interval = _estimate(found)
    return f"{value} ({interval})" if interval else value


def _with_margin(found: Estimate) -> str:
    if found.high is None:
        return f"{found.value:.4f}"
    return f"{found.value:.4f} ± {found.high - found.value:.4f}"


def _number(value: float) -> str:
    """Three digits or more, no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gain(found: Gain | None) -> str:
    if found is None:
        return ""
    low, high = found.estimate.low, found.estimate.high
    interval = "" if low is None or high is None else f" ({low:+.4f} to {high:+.4f})"
    return f"{found.estimate.value:+.4f}{interval}: {verdict(found)}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], kinds: Sequence[str]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, kinds, *rows))
