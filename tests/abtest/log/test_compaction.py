"""Compaction, retention and what both share: every event in one file, whatever is killed when."""

import signal
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from abtest.events import EVENT_ADAPTER, Event
from abtest.log import compaction
from abtest.log.archive import LOCK, archive
from abtest.log.columns import SCHEMA, conform
from abtest.log.compaction import compact
from abtest.log.files import FileName, FilesError, StreamId, changing, reading
from abtest.log.retention import drop_days
from tests.abtest.traffic import DAY_US, START_US, append, assignment, click, ranking

BEFORE = date(2026, 1, 3)
"""Two days are over: the first two of `write_days`."""

CRASH = """
import os, signal, sys
from datetime import date
from pathlib import Path
import redis
from abtest.log.compaction import compact

point, socket, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

def counting(call):
    def counted(*args, **kwargs):
        global point
        if point == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        point -= 1
        return call(*args, **kwargs)
    return counted

Path.rename, Path.unlink = counting(Path.rename), counting(Path.unlink)
os.fsync = counting(os.fsync)
compact(redis.Redis(unix_socket_path=socket), folder, date(2026, 1, 3))
"""


def write_days(client: redis.Redis, folder: Path, files: int, days: int = 3) -> list[Event]:
    """`files` runs of the archive, each with an answer and a click on every day."""
    events: list[Event] = []
    for run in range(files):
        some: list[Event] = []
        for day in range(days):
            ts_us = START_US + day * DAY_US + run
            answer = ranking(f"r{run}-{day}", f"u{run}", [assignment("new")], ts_us=ts_us)
            some += [answer, click(answer, 0)]
        append(client, some)
        archive(client, folder)
        events += some
    return events


def shown(folder: Path) -> Counter[str]:
    with reading(folder) as files:
        texts = [t for f in files for t in pq.ParquetFile(f).read(["event"])["event"].to_pylist()]
    return Counter(EVENT_ADAPTER.validate_json(text).model_dump_json() for text in texts)


def counted(events: list[Event]) -> Counter[str]:
    return Counter(event.model_dump_json() for event in events)


def names(folder: Path) -> dict[str, int]:
    return {day.name: len(list(day.iterdir())) for day in sorted(folder.glob("day=*"))}


def test_days_that_are_over_become_one_file(valkey: redis.Redis, tmp_path: Path) -> None:
    events = write_days(valkey, tmp_path, 8)
    first = sorted(tmp_path.glob("day=2026-01-01/*"))
    assert compact(valkey, tmp_path, BEFORE) == 16
    assert names(tmp_path) == {"day=2026-01-01": 1, "day=2026-01-02": 1, "day=2026-01-03": 8}
    [whole] = tmp_path.glob("day=2026-01-01/*")
    name = FileName.of(whole)
    assert (name.first, name.last) == (FileName.of(first[0]).first, FileName.of(first[-1]).last)
    assert name.generation == 1
    assert whole.name == str(name)
    assert pq.ParquetFile(whole).schema_arrow.remove_metadata() == SCHEMA
    assert shown(tmp_path) == counted(events)
    assert compact(valkey, tmp_path, BEFORE) == 0


def test_few_or_large_files_stay(
    valkey: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = write_days(valkey, tmp_path, 7, days=1)
    assert compact(valkey, tmp_path, BEFORE) == 0
    events += write_days(valkey, tmp_path, 11, days=1)[14:]
    monkeypatch.setattr(compaction, "MAX_EVENTS", 4)
    assert compact(valkey, tmp_path, BEFORE) == 0
    monkeypatch.setattr(compaction, "MAX_EVENTS", 20)
    assert compact(valkey, tmp_path, BEFORE) == 18
    assert names(tmp_path) == {"day=2026-01-01": 2}


def test_a_crash_of_the_archive_is_noticed_after_compaction(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    """Events that stand in the stream and in a compacted file are not written again."""
    write_days(valkey, tmp_path, 7)
    late = ranking("late", "u", [], ts_us=START_US)
    append(valkey, [late])
    untrimmed, valkey.xtrim = valkey.xtrim, lambda *_, **__: 0  # type: ignore[method-assign]
    archive(valkey, tmp_path)
    valkey.xtrim = untrimmed  # type: ignore[method-assign]
    assert compact(valkey, tmp_path, BEFORE) == 8
    assert archive(valkey, tmp_path) == 0
    assert shown(tmp_path)[late.model_dump_json()] == 1


@pytest.mark.parametrize("point", [2, 3, 4, 13, 15])
def test_a_killed_compaction_loses_and_doubles_nothing(
    valkey: redis.Redis, tmp_path: Path, point: int
) -> None:
    events = write_days(valkey, tmp_path, 8, days=2)
    socket = valkey.get_connection_kwargs()["path"]
    killed = subprocess.run(
        [sys.executable, "-c", CRASH, str(point), socket, str(tmp_path)],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert killed.returncode == -signal.SIGKILL, killed
    assert shown(tmp_path) == counted(events)
    valkey.pexpire(LOCK, 1)
    late = ranking("late", "u", [], ts_us=START_US + 5 * DAY_US)
    append(valkey, [late])
    assert archive(valkey, tmp_path) == 1
    assert shown(tmp_path) == counted([*events, late])
    compact(valkey, tmp_path, BEFORE)
    assert shown(tmp_path) == counted([*events, late])
    assert names(tmp_path) == {"day=2026-01-01": 1, "day=2026-01-02": 1, "day=2026-01-06": 1}
    assert list(tmp_path.glob("**/.*")) == []


def test_readers_are_waited_for(valkey: redis.Redis, tmp_path: Path) -> None:
    events = write_days(valkey, tmp_path, 8, days=1)
    with reading(tmp_path) as files:
        with pytest.raises(FilesError, match=rf"the files of {tmp_path} are being read or changed"):
            compact(valkey, tmp_path, BEFORE)
        assert all(file.exists() for file in files)
        assert archive(valkey, tmp_path) == 0  # which goes on meanwhile
    assert compact(valkey, tmp_path, BEFORE) == 8
    assert shown(tmp_path) == counted(events)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    with reading(tmp_path / "none") as files:
        assert files == []
    with changing(tmp_path / "made"):
        assert (tmp_path / "made").is_dir()


def test_old_days_are_dropped(valkey: redis.Redis, tmp_path: Path) -> None:
    write_days(valkey, tmp_path, 2)
    assert drop_days(valkey, tmp_path, date(2026, 1, 1)) == 0
    assert drop_days(valkey, tmp_path, date(2026, 1, 3)) == 4
    assert names(tmp_path) == {"day=2026-01-03": 2}


def test_names_say_what_they_hold() -> None:
    name = FileName(StreamId(1, 0), StreamId(2, 30))
    assert str(name) == "1-0-2-30.parquet"
    assert FileName.of(Path("day=2026-01-01") / str(name)) == name
    assert FileName.of(Path(str(name._replace(generation=2)))).generation == 2


def old_file(path: Path) -> None:
    """A file as it was written before `context`, `teams` and `cluster`."""
    assignment_type = pa.struct([("layer", pa.string()), ("forced", pa.bool_())])
    rows = {
        "type": ["ranking", "click", "ranking"],
        "event_id": ["a", "b", "c"],
        "assignments": pa.array(
            [[("m", False), ("n", True)], [], [("m", True)]], pa.list_(assignment_type)
        ),
        "unit": ["u", "u", "v"],
    }
    path.parent.mkdir()
    pq.write_table(pa.table(rows), path)


def test_files_of_earlier_releases_are_taken_along(tmp_path: Path) -> None:
    old_file(path := tmp_path / "day" / "old.parquet")
    rows = conform(pq.ParquetFile(path).read()).to_pylist()
    assert [list(row) for row in rows] == [SCHEMA.names] * 3
    nothing = dict.fromkeys(("key", "revision", "variant", "propensity", "cluster"))
    assert [row["assignments"] for row in rows] == [
        [nothing | {"layer": "m", "forced": False}, nothing | {"layer": "n", "forced": True}],
        [],
        [nothing | {"layer": "m", "forced": True}],
    ]
    assert [row["context"] for row in rows] == [None, None, None]
    assert [row["unit"] for row in rows] == ["u", "u", "v"]
