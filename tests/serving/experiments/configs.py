"""Configurations of the tiny world, and what they are compared by."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx

from abtest.split.config import ExperimentConfig, parse_config
from tests.serving.patience import body as asked

EVERYBODY = 'version = 1\n[defaults]\nbundle = "baseline"\n'

RAMPED = """
version = 1

[defaults]
bundle = "baseline"
interleave_with = ""

[[layers]]
name = "model"
seed = "ramped"

[[layers.experiments]]
key = "ranker"
revision = 1
state = "running"
slots = [0, 1000]
control = "old"
variants = [
    { name = "old", weight = 0.5 },
    { name = "new", weight = 0.5, params = { bundle = "dftopk" } },
]
"""
"""A tenth of the users is split between two bundles."""


class Revision:
    """Of the experiments that `config` makes now.

    Tests that share a server have one each: what was removed comes back under a higher one only.
    """

    now = 1
    _next = count(10, 10)

    @classmethod
    @contextmanager
    def anew(cls) -> Iterator[None]:
        """A higher one inside the block."""
        cls.now = next(cls._next)
        yield
        cls.now = 1


def config(text: str = RAMPED, **experiment: object) -> ExperimentConfig:
    """A configuration whose first experiment has these values."""
    raw = parse_config(text).model_dump()
    for domain in raw["domains"]:
        values = {"revision": Revision.now, **experiment}
        domain["layers"][0]["experiments"][0].update(values)
    return ExperimentConfig.model_validate(raw)


def body(found: ExperimentConfig) -> dict[str, Any]:
    """As it is sent."""
    return found.model_dump(mode="json")


def in_force(http: httpx.Client) -> dict[str, Any]:
    return asked(lambda: http.get("/v1/experiments"))


def put(http: httpx.Client, found: ExperimentConfig, **also: object) -> httpx.Response:
    """Put a configuration in the place of the one in force."""
    sent = {"revision": in_force(http)["revision"], "config": body(found), **also}
    return http.put("/v1/experiments", json=sent)


def act(http: httpx.Client, key: str, action: str, **also: object) -> httpx.Response:
    sent = {"revision": in_force(http)["revision"], **also}
    return http.post(f"/v1/experiments/{key}/{action}", json=sent)
