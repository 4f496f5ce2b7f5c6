"""Erasure in the log: what is asked for goes, whatever is killed when; everything else stays."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import redis

from abtest.events import EVENT_ADAPTER
from abtest.log.archive import LOCK, archive
from abtest.log.erasure import (
    PENDING,
    Pending,
    Receipt,
    erase_archived,
    journal_holds,
    note_complete,
    note_removed,
    pending_erasures,
    swept_erasures,
)
from abtest.log.event_log import STREAM
from abtest.log.files import reading
from abtest.log.journal import open_journal
from abtest.log.record import answer_key, feedback_record, ranking_record
from abtest.log.tombstones import ERASURES, digest
from tests.abtest.log.test_compaction import shown
from tests.abtest.traffic import DAY_US, START_US, append, click, ranking

UNTIL_US = START_US + DAY_US

CRASH = """
import os, signal, sys
from pathlib import Path
import redis
from abtest.log.erasure import erase_archived, pending_erasures

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
client = redis.Redis(unix_socket_path=socket)
erase_archived(client, folder, pending_erasures(client))
"""


def ask(client: redis.Redis, unit: str, until_us: int = UNTIL_US) -> Pending:
    """What the server writes when an erasure is asked for."""
    receipt = Receipt(id="e1", by="tester", requested_us=until_us, erased_until_us=until_us)
    client.hset(ERASURES, digest(unit), receipt.model_dump_json())
    client.hset(PENDING, digest(unit), unit)
    return Pending(unit, receipt)


def write_two_units(client: redis.Redis, folder: Path) -> None:
    """Two files on each of two days: one with both units, one with the erased unit alone."""
    for day in range(2):
        for run, units in enumerate([("gone", "stays"), ("gone",)]):
            for unit in units:
                ts_us = START_US + day * (DAY_US - 1)
                answer = ranking(f"{unit}-{day}-{run}", unit, [], ts_us=ts_us)
                client.set(answer_key(answer.request_id), "x")
                append(client, [answer, click(answer, 0)])
            archive(client, folder)


def units_in(folder: Path) -> Counter[str]:
    return Counter(EVENT_ADAPTER.validate_json(text).unit for text in shown(folder).elements())


def test_an_erased_unit_leaves_the_files(valkey: redis.Redis, tmp_path: Path) -> None:
    write_two_units(valkey, tmp_path)
    later = ranking("later", "gone", [], ts_us=UNTIL_US + 1)
    append(valkey, [later])
    archive(valkey, tmp_path)
    ask(valkey, "gone")
    assert erase_archived(valkey, tmp_path, pending_erasures(valkey)) == {"gone": 8}
    assert units_in(tmp_path) == {"stays": 4, "gone": 1}
    with reading(tmp_path) as files:
        assert len(files) == 3
    assert sorted(valkey.keys("answer:*")) == [b"answer:stays-0-0", b"answer:stays-1-0"]
    assert erase_archived(valkey, tmp_path, pending_erasures(valkey)) == {"gone": 0}


def test_an_erased_unit_does_not_come_back(valkey: redis.Redis, tmp_path: Path) -> None:
    """Whatever waited in a journal then comes to the stream with the time of when it was taken."""
    done = ask(valkey, "gone")
    note_removed(valkey, done, removed=0, swept=True)
    [name] = swept_erasures(valkey)
    note_complete(valkey, name, UNTIL_US + 9)
    early, late = (
        ranking(n, "gone", [], ts_us=t) for n, t in [("a", UNTIL_US), ("b", UNTIL_US + 1)]
    )
    valkey.set(answer_key("a"), "x")
    append(valkey, [early, late, ranking("c", "stays", [])])
    assert archive(valkey, tmp_path) == 2
    assert units_in(tmp_path) == {"gone": 1, "stays": 1}
    assert valkey.xlen(STREAM) == 0
    assert not valkey.exists(answer_key("a"))


@pytest.mark.parametrize("point", [0, 2, 5])
def test_a_killed_erasure_is_finished_by_the_next(
    valkey: redis.Redis, tmp_path: Path, point: int
) -> None:
    write_two_units(valkey, tmp_path)
    ask(valkey, "gone")
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
    assert units_in(tmp_path)["stays"] == 4
    valkey.pexpire(LOCK, 1)
    archive(valkey, tmp_path)
    erase_archived(valkey, tmp_path, pending_erasures(valkey))
    assert units_in(tmp_path) == {"stays": 4}
    assert list(tmp_path.glob("**/.*")) == []


def test_journals_are_looked_into(tmp_path: Path) -> None:
    early, late = ranking("a", "gone", [], ts_us=UNTIL_US), ranking("b", "late", [], ts_us=UNTIL_US)
    receipt = Receipt(id="e", by="t", requested_us=0, erased_until_us=UNTIL_US)
    asked = [Pending(unit, receipt) for unit in ("gone", "other")]
    asked.append(Pending("late", receipt.model_copy(update={"erased_until_us": UNTIL_US - 1})))
    assert journal_holds(tmp_path, asked) == set()
    journal = open_journal(tmp_path)
    for record in (ranking_record(early), feedback_record(click(late, 0))):
        end = journal.append([record.pack()])
    assert journal_holds(tmp_path, asked) == {"gone"}
    journal.rotate()
    assert journal_holds(tmp_path, asked) == {"gone"}, "the store may not have it yet"
    journal.advance(end)
    assert journal_holds(tmp_path, asked) == set()
    assert list((tmp_path / "0").glob("*.log")) == []
    journal.append([ranking_record(late).pack()])
    journal.sync()
    journal.advance(journal.end)
    journal.rotate()
    assert list((tmp_path / "0").glob("*.log")) == []
    journal.close()


def test_one_asked_for_again_meanwhile_is_not_complete(valkey: redis.Redis) -> None:
    first = ask(valkey, "gone")
    ask(valkey, "gone", UNTIL_US + 5)
    note_removed(valkey, first, removed=3, swept=True)
    [again] = pending_erasures(valkey)
    assert again.receipt.removed_events == 3
    assert swept_erasures(valkey) == []
    note_removed(valkey, again, removed=1, swept=True)
    assert pending_erasures(valkey) == []
    ask(valkey, "gone", UNTIL_US + 9)
    assert note_complete(valkey, digest("gone"), UNTIL_US + 10).completed_us is None
    [third] = pending_erasures(valkey)
    note_removed(valkey, third, removed=0, swept=True)
    assert note_complete(valkey, digest("gone"), UNTIL_US + 11).completed_us == UNTIL_US + 11
    assert valkey.hgetall(PENDING) == {}
    assert b"gone" not in b"".join(valkey.hgetall(ERASURES).values())  # type: ignore[arg-type]
