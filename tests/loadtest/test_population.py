"""Who visits, and how often."""

from collections import Counter
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loadtest.population import made_up, population, read_user_ids
from loadtest.step import LoadError


def test_frequencies_follow_zipf() -> None:
    users = population(["a", "b", "c", "d"], exponent=1.0)
    rng = Random(5)
    counts = Counter(users.draw(rng) for _ in range(25_000))
    weight = 1 + 1 / 2 + 1 / 3 + 1 / 4
    for rank, user_id in enumerate("abcd", start=1):
        assert counts[user_id] == pytest.approx(25_000 / rank / weight, rel=0.05)
    assert made_up(3) == ["loadtest-1", "loadtest-2", "loadtest-3"]


def test_users_are_read_in_their_order_and_once(tmp_path: Path) -> None:
    (tmp_path / "u.txt").write_text("b\n\n a \nb\nç\n", "utf-8")
    assert read_user_ids(tmp_path / "u.txt") == ["b", "a", "ç"]
    pq.write_table(pa.table({"user_id": [7, None, 3, 7]}), tmp_path / "u.parquet")
    assert read_user_ids(tmp_path / "u.parquet") == ["7", "3"]


def test_files_that_name_nobody_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no\.txt does not exist; give a \.parquet with user_id"):
        read_user_ids(tmp_path / "no.txt")
    pq.write_table(pa.table({"id": [7]}), tmp_path / "u.parquet")
    with pytest.raises(LoadError, match=r"has the columns \['id'\] and must have 'user_id'"):
        read_user_ids(tmp_path / "u.parquet")
    (tmp_path / "u.txt").write_text("\n \n")
    with pytest.raises(LoadError, match=r"u\.txt names no users; it must name one at least"):
        read_user_ids(tmp_path / "u.txt")
