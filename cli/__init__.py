"""`cascade`: every step from purchases to revenue per bucket as a command."""

from cli import serve, train
from cli.command import Commands, main

__all__ = ["Commands", "main", "serve", "train"]
