"""`cascade`: every step from purchases to revenue per bucket as a command."""

from cli import benchmark, data, rolling, serve, train
from cli.command import Commands, main

__all__ = ["Commands", "benchmark", "data", "main", "rolling", "serve", "train"]
