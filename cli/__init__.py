"""`cascade`: every step from purchases to revenue per bucket as a command."""

from cli import (
    analyze,
    benchmark,
    bundles,
    data,
    experiments,
    keys,
    loadtest,
    planning,
    reports,
    rolling,
    serve,
    simulate,
    train,
)
from cli.command import Commands, main

__all__ = [
    "Commands",
    "analyze",
    "benchmark",
    "bundles",
    "data",
    "experiments",
    "keys",
    "loadtest",
    "main",
    "planning",
    "reports",
    "rolling",
    "serve",
    "simulate",
    "train",
]
