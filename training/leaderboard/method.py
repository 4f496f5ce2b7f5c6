"""Methods: the rows of the leaderboard, one a loss and one for each sort of LCRON's."""

from collections.abc import Sequence
from typing import NamedTuple, get_args

from training.losses.config import LossConfig, LossName

SORTED = frozenset({"lcron"})
"""Losses that stand on the board once for each relaxed sort: LCRON's choice of it is open, and its
cost and temperature differ. The other losses with a sort run with the one they were published
with."""
UNTEMPERED = frozenset({"bce", "rankflow", "fs_ranknet", "fs_lambdaloss"})
"""Losses that do not read `tau`. A loss that is not named here is tried at several temperatures."""


class BenchmarkError(ValueError):
    """A benchmark that cannot be run or resumed; the message names value, rule and remedy."""


class Method(NamedTuple):
    """A row of the leaderboard."""

    name: str
    loss: LossConfig
    """Its temperature is what the sweep is about."""

    @property
    def tempered(self) -> bool:
        """Whether the loss reads `tau`."""
        return self.loss.name not in UNTEMPERED


def methods() -> tuple[Method, ...]:
    """All of them, in the order of `LossName`."""
    found = []
    for name in get_args(LossName):
        if name in SORTED:
            sorts = get_args(LossConfig.model_fields["sort"].annotation)
            found += [Method(f"{name}-{sort}", LossConfig(name=name, sort=sort)) for sort in sorts]
        else:
            found.append(Method(name, LossConfig(name=name)))
    return tuple(found)


def chosen(names: Sequence[str], known: Sequence[Method] | None = None) -> tuple[Method, ...]:
    """Methods by name, in the order of the board; the name of a loss stands for all its rows.

    Args:
        names: of methods or losses.
        known: to choose from; all methods if absent.

    Raises:
        BenchmarkError: a name is unknown.
    """
    known = methods() if known is None else known
    for name in names:
        if not any(name in (method.name, method.loss.name) for method in known):
            listed = ", ".join(method.name for method in known)
            raise BenchmarkError(f"no method {name!r}; known are {listed}")
    return tuple(method for method in known if {method.name, method.loss.name} & set(names))
