"""`cascade`: every step from purchases to revenue per bucket as a command."""

from cli import benchmark, bundles, data, keys, loadtest, rolling, serve, train
from cli.command import Commands, main

__all__ = [
    "Commands",
    "benchmark",
    "bundles",
    "data",
    "keys",
    "loadtest",
    "main",
    "rolling",
    "serve",
    "train",
]
