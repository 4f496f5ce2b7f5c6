"""The e-mail test of MineThatData (Hillstrom 2008): 64,000 customers, three arms.

It is published for analysis without a licence, so it is no part of the repository. The tests read
the file that HILLSTROM_CSV names, and skip without it.
"""

import os
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pytest

from abtest.analysis.sample import Float64

COLUMNS = ("spend", "visit", "history")


class Customers(NamedTuple):
    """One arm."""

    spend: Float64
    visit: Float64
    history: Float64


def hillstrom_csv() -> Path:
    """The file, or the test is skipped."""
    path = Path(os.environ.get("HILLSTROM_CSV", "hillstrom.csv"))
    if not path.is_file():
        pytest.skip("HILLSTROM_CSV does not name the published table, which has no licence")
    return path


def hillstrom() -> dict[str, Customers]:
    """Customers by arm: `Mens E-Mail`, `Womens E-Mail` and the control, `No E-Mail`."""
    with duckdb.connect() as connection:
        rows = connection.read_csv(str(hillstrom_csv())).fetchnumpy()
    arms = np.asarray(rows["treatment"], object)
    return {
        str(name): Customers(*(np.asarray(rows[column][arms == name], float) for column in COLUMNS))
        for name in sorted(set(arms))
    }
