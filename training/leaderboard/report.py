"""Report: a leaderboard as files, for machines, readers and viewers."""

from pathlib import Path

from training.durable import write_file
from training.leaderboard.board import Board
from training.leaderboard.pictures import draw_compute, draw_negatives, draw_recall
from training.leaderboard.table import COMPUTE, NEGATIVES, RECALL, page

NUMBERS = "leaderboard.json"
PAGE = "leaderboard.md"


def write_report(board: Board, folder: Path) -> None:
    """Write `leaderboard.json`, `leaderboard.md` and its pictures."""
    write_file(folder / NUMBERS, (board.model_dump_json(indent=1) + "\n").encode())
    if board.rows:
        write_file(folder / RECALL, draw_recall(board))
    if board.negatives:
        write_file(folder / NEGATIVES, draw_negatives(board))
    if any(row.curve for row in board.rows):
        write_file(folder / COMPUTE, draw_compute(board))
    write_file(folder / PAGE, page(board).encode())
