import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abtest.log.journal import Journal, JournalError, open_abandoned, open_journal

WRITER = """
import sys
from pathlib import Path
from abtest.log.journal import open_journal

journal = open_journal(Path(sys.argv[1]))
number = 0
while True:
    journal.append([b"%d" % number] * 3)
    print(number, flush=True)
    number += 1
"""


def everything(journal: Journal, max_bytes: int = 1 << 20) -> list[bytes]:
    found: list[bytes] = []
    position = journal.advanced
    while position < journal.end:
        records, position = journal.read(position, max_bytes)
        found += records
    assert journal.read(position, max_bytes) == ([], journal.end)
    return found


def segments(journal: Journal) -> list[Path]:
    return sorted(journal.folder.glob("*.log"))


@pytest.mark.parametrize("max_bytes", [1, 30, 1 << 20])
def test_records_come_back_in_order_from_any_position(tmp_path: Path, max_bytes: int) -> None:
    journal = open_journal(tmp_path, segment_bytes=40)
    records = [b"%d" % number * (1 + number % 5) for number in range(50)]
    positions = [journal.append([record]) for record in records]
    assert everything(journal, max_bytes) == records
    assert journal.read(positions[9], 1)[0][0] == records[10]
    journal.sync()
    journal.close()
    with_more = open_journal(tmp_path, segment_bytes=40)
    with_more.append([b"more"])
    assert everything(with_more, max_bytes) == [*records, b"more"]
    with_more.close()


def test_what_the_store_has_is_deleted_and_forgotten(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, segment_bytes=100)
    positions = [journal.append([b"x" * 50]) for _ in range(10)]
    assert len(segments(journal)) == 5
    journal.advance(positions[6])
    assert [path.stem for path in segments(journal)] == [f"{6 * 58:020}", f"{8 * 58:020}"]
    assert journal.backlog_bytes == 3 * 58
    journal.close()
    again = open_journal(tmp_path)
    assert (again.advanced, again.end) == (positions[6], positions[9])
    assert len(everything(again)) == 3
    again.advance(again.end)
    again.close()
    assert segments(again) == []
    last = open_journal(tmp_path)
    assert (last.advanced, last.end) == (positions[9], positions[9])
    last.append([b"new"])
    assert everything(last) == [b"new"]
    last.close()


@pytest.mark.parametrize("tail", [b"\1", b"\0" * 100, b"\3\0\0\0\0\0\0\0ab", b"\2\0\0\0abcdxy"])
def test_torn_end_is_cut_off(tmp_path: Path, tail: bytes, caplog: pytest.LogCaptureFixture) -> None:
    journal = open_journal(tmp_path)
    journal.append([b"one", b"two"])
    journal.close()
    [path] = segments(journal)
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(tail)
    again = open_journal(tmp_path)
    assert path.stat().st_size == whole
    assert f"a torn end of {len(tail)} bytes is cut off" in caplog.text
    again.append([b"three"])
    assert everything(again) == [b"one", b"two", b"three"]
    again.close()


def test_damage_in_the_middle_loses_that_segment_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(tmp_path, segment_bytes=1)
    for number in range(4):
        journal.append([b"record %d" % number])
    damaged = segments(journal)[1]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    assert everything(journal) == [b"record 0", b"record 2", b"record 3"]
    assert f"{damaged} is damaged; 16 bytes of it are lost" in caplog.text
    journal.close()
    again = open_journal(tmp_path)
    assert everything(again) == [b"record 0", b"record 2", b"record 3"]
    assert "lost 16 bytes" in caplog.text
    again.close()


@pytest.mark.parametrize("tail", [b"", b"\0" * 100])
def test_position_noted_beyond_the_end_does_not_swallow_what_comes(
    tmp_path: Path, tail: bytes
) -> None:
    journal = open_journal(tmp_path)
    journal.append([b"one"])
    end = journal.append([b"two"])
    journal.advance(end)
    # A power cut took the second record, which the store had.
    journal.append([b"three"])
    journal.close()
    [path] = segments(journal)
    path.write_bytes(path.read_bytes()[:11] + tail)
    (journal.folder / "advanced").write_bytes(b"%020d\n" % (end + 5))
    again = open_journal(tmp_path)
    assert again.advanced == again.end
    again.append([b"four"])
    assert everything(again) == [b"four"]
    again.close()


def test_unreadable_position_sends_everything_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.advance(journal.append([b"one"]))
    journal.append([b"two"])
    journal.close()
    (journal.folder / "advanced").write_bytes(b"\0" * 21)
    again = open_journal(tmp_path)
    assert everything(again) == [b"one", b"two"]
    again.close()


def test_each_process_has_its_own_and_takes_over_what_is_left(tmp_path: Path) -> None:
    first, second = open_journal(tmp_path), open_journal(tmp_path)
    assert [first.folder.name, second.folder.name] == ["0", "1"]
    second.append([b"left"])
    assert list(open_abandoned(tmp_path)) == []
    second.close()
    [found] = open_abandoned(tmp_path)
    assert everything(found) == [b"left"]
    assert list(open_abandoned(tmp_path)) == []
    found.advance(found.end)
    found.close()
    assert list(open_abandoned(tmp_path)) == []
    first.close()


def test_killed_writer_leaves_whole_records(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"0\n"
        time.sleep(0.1)
        writer.kill()
        told = int(writer.stdout.read().split()[-1])
    journal = open_journal(tmp_path)
    found = everything(journal)
    journal.close()
    assert len(found) >= 3 * (told + 1)
    assert found[: 3 * (told + 1)] == [b"%d" % n for n in range(told + 1) for _ in range(3)]


def test_full_journal_is_refused_and_takes_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, max_bytes=100)
    end = journal.append([b"x" * 80])
    with pytest.raises(
        JournalError,
        match=r"journal .*/0 holds 88 bytes that the store has not taken, and the limit is 100; "
        "bring the store back",
    ):
        journal.append([b"y" * 80])
    journal.advance(end)
    journal.append([b"z" * 80])
    assert everything(journal) == [b"z" * 80]
    journal.close()


def test_full_disk_is_refused_and_leaves_nothing_torn(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append([b"before"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(
            JournalError,
            match=r"journal .*/0 cannot be written \(File too large\); free space on its disk",
        ):
            journal.append([b"x" * 600, b"y" * 600])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.append([b"after"])
    assert everything(journal) == [b"before", b"after"]
    journal.close()


def test_sync_error_is_named(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append([b"one"])
    assert journal._file is not None
    os.close(journal._file)
    with pytest.raises(JournalError, match=r"journal .*/0 cannot be synced \(Bad file descript"):
        journal.sync()
    journal._file = None
    journal.close()


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("in the way")
    with pytest.raises(JournalError, match=r"journal .*/0 cannot be used \(File exists\); make it"):
        open_journal(tmp_path)


def test_damaged_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0" / f"{0:020}.log").mkdir(parents=True)
    (tmp_path / "0" / f"{0:020}.log" / "x").write_text("in the way")
    with pytest.raises(JournalError, match=r"journal .*/0 cannot be used \(Is a directory\)"):
        open_journal(tmp_path)
