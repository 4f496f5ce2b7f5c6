"""Subject: whose units are compared; an experiment's revision or a holdout."""

from typing import Final, NamedTuple

from abtest.split.config import Holdout
from abtest.split.experiment import Experiment

HELD: Final = "held"
OPEN: Final = "open"


class Subject(NamedTuple):
    """Everything that reading the log needs to know about a comparison."""

    key: str
    revision: int
    variants: tuple[str, ...]
    """Names, in the order of the configuration."""


def of_experiment(experiment: Experiment) -> Subject:
    """The current revision of an experiment."""
    names = tuple(variant.name for variant in experiment.variants)
    return Subject(experiment.key, experiment.revision, names)


def of_holdout(holdout: Holdout) -> Subject:
    """A holdout: those it holds, and everybody else."""
    return Subject(holdout.key, holdout.revision, (HELD, OPEN))
