"""Population: who visits. Few users come often, many come rarely, as Zipf's law has it."""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from random import Random

import pyarrow.parquet as pq

from loadtest.step import LoadError

ZIPF_EXPONENT = 1.1
USER_ID = "user_id"


@dataclass(frozen=True)
class Population:
    """Users and how often they come."""

    user_ids: Sequence[str]
    cumulative: Sequence[float]
    """Weights added up: the user of rank r has r to the power of minus the exponent."""

    def draw(self, rng: Random) -> str:
        """Whoever comes next."""
        return self.user_ids[bisect(self.cumulative, rng.random() * self.cumulative[-1])]


def population(user_ids: Sequence[str], exponent: float = ZIPF_EXPONENT) -> Population:
    """Users whose frequency falls with their place in the list."""
    weights = accumulate(rank**-exponent for rank in range(1, len(user_ids) + 1))
    return Population(user_ids, list(weights))


def made_up(count: int) -> list[str]:
    """Users no server has heard of: `loadtest-1`, `loadtest-2`, ..."""
    return [f"loadtest-{number}" for number in range(1, count + 1)]


def read_user_ids(path: Path) -> list[str]:
    """User ids of a file: the column `user_id` of a `.parquet`, else one id a line.

    Raises:
        LoadError: there is no such file, it lacks the column, or it names nobody.
    """
    if not path.is_file():
        raise LoadError(f"{path} does not exist; give a .parquet with {USER_ID}, or one id a line")
    if path.suffix == ".parquet":
        names = pq.read_schema(path).names
        if USER_ID not in names:
            raise LoadError(f"{path} has the columns {names} and must have {USER_ID!r}")
        column = pq.read_table(path, columns=[USER_ID])[USER_ID]
        found = [str(user_id) for user_id in column.to_pylist() if user_id is not None]
    else:
        found = [line.strip() for line in path.read_text("utf-8").splitlines()]
    user_ids = list(dict.fromkeys(user_id for user_id in found if user_id))
    if not user_ids:
        raise LoadError(f"{path} names no users; it must name one at least")
    return user_ids
