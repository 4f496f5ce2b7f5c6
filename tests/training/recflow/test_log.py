import shutil
from pathlib import Path

import numpy as np
import pytest

from training.recflow.log import META, LogError, PreparedLog


def test_a_day_has_a_row_for_each_request(prepared_log: PreparedLog) -> None:
    for name, requests in zip(prepared_log.meta.days, prepared_log.meta.requests, strict=True):
        day = prepared_log.day(name)
        assert {len(column) for column in day} == {requests}
    assert len(prepared_log.items_IF) == prepared_log.meta.items[-1]
    assert not prepared_log.items_IF[0].any()


def _lose(log: Path) -> None:
    (log / "days" / "2024-01-14" / "history.npy").unlink()


def _cut(log: Path) -> None:
    file = log / "days" / "2024-01-14" / "fields.npy"
    file.write_bytes(file.read_bytes()[:-8])


def _shorten(log: Path) -> None:
    file = log / "days" / "2024-01-14" / "ranks.npy"
    np.save(file, np.load(file)[:-1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_lose, r"history\.npy is missing or damaged; run `cascade data recflow` again"),
        (_cut, r"fields\.npy is missing or damaged"),
        (_shorten, r"ranks\.npy has 299 rows, log\.json says 300; run"),
    ],
)
def test_a_damaged_column_is_named(
    prepared_log: PreparedLog, tmp_path: Path, damage: object, message: str
) -> None:
    shutil.copytree(prepared_log.path, tmp_path / "log")
    assert callable(damage)
    damage(tmp_path / "log")
    log = PreparedLog(tmp_path / "log")
    log.day("2024-01-13")
    with pytest.raises(LogError, match=message):
        log.day("2024-01-14")


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="holds no prepared log; make one with"):
        PreparedLog(tmp_path)
    (tmp_path / META).write_text("{}")
    with pytest.raises(LogError, match=r"log\.json is damaged; run `cascade data recflow` again"):
        PreparedLog(tmp_path)


def test_an_unknown_day_is_refused(prepared_log: PreparedLog) -> None:
    with pytest.raises(LogError, match="no day '2024-02-30'; it has 2024-01-13 to 2024-01-15"):
        prepared_log.day("2024-02-30")
