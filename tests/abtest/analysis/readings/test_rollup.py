import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from abtest.analysis.metric import MetricError
from abtest.analysis.metrics_file import load_metrics, parse_metrics
from abtest.analysis.readings import rollup
from abtest.analysis.readings.part import load
from abtest.analysis.readings.readings import Readings, read
from abtest.analysis.readings.rollup import RollupError, update
from abtest.analysis.readings.source import Source, sources
from abtest.analysis.readings.subject import Subject
from abtest.analysis.readings.tally import MAX_ITEM_TALLIES
from abtest.events import Event
from tests.abtest.analysis.readings.log import HOLDOUT, world, write
from tests.abtest.traffic import DAY_US, KEY, assignment, click, conversion, ranking

METRICS = load_metrics()
SUBJECT = Subject(KEY, 1, ("old", "new"))


def parts(folder: Path) -> dict[str, int]:
    """Days of the parts and the files they hold, by folder."""
    found = [load(path) for path in (folder / "rollups").glob("day=*/*")]
    return {str(part.folder): len(part.sources) for part in found if part is not None}


def roll(folder: Path) -> int:
    return update(folder / "events", folder / "rollups", METRICS)


def reading(folder: Path) -> Readings:
    return read(folder / "events", folder / "rollups", SUBJECT, METRICS)


def answers(first: int, count: int, day: int = 0) -> list[Event]:
    later = {"event_ts_us": 1_767_225_600 * 10**6 + day * DAY_US}
    return [
        ranking(f"r{n}", f"u{n}", [assignment("new")]).model_copy(update=later)
        for n in range(first, first + count)
    ]


def test_what_is_rolled_up_is_not_touched_again(tmp_path: Path) -> None:
    write(tmp_path / "events", answers(0, 40), files=4)
    assert roll(tmp_path) == 1
    (kept,) = parts(tmp_path)
    before = Path(kept).stat().st_ino
    write(tmp_path / "events", answers(100, 5), tag="b")
    assert roll(tmp_path) == 2
    write(tmp_path / "events", answers(200, 5, day=1), tag="c")
    assert roll(tmp_path) == 3
    assert kept in parts(tmp_path)
    assert Path(kept).stat().st_ino == before
    assert roll(tmp_path) == 3
    assert reading(tmp_path).counts["new"].units == 50


def test_a_day_of_many_small_files_has_few_parts(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / "events", answers(10 * number, 2), tag=f"f{number}")
        assert roll(tmp_path) <= 4
    assert sum(parts(tmp_path).values()) == 12
    assert reading(tmp_path).counts["new"].requests == 24


def test_files_that_share_an_event_are_in_one_part(tmp_path: Path) -> None:
    events = answers(0, 40)
    write(tmp_path / "events", events, files=2)
    roll(tmp_path)
    write(tmp_path / "events", [events[7], *answers(100, 1)], tag="again")
    assert roll(tmp_path) == 1
    assert reading(tmp_path).counts["new"].requests == 41


def test_removed_replaced_and_compacted_files_lose_their_rollups(tmp_path: Path) -> None:
    first, second = answers(0, 10), answers(10, 10)
    write(tmp_path / "events", first, tag="a")
    write(tmp_path / "events", second, tag="b")
    write(tmp_path / "events", answers(20, 10, day=1), tag="c")
    roll(tmp_path)
    write(tmp_path / "events", first[:4], tag="a")
    assert reading(tmp_path).counts["new"].units == 24
    write(tmp_path / "events", [*first, *second], tag="compacted")
    assert reading(tmp_path).counts["new"].units == 30
    for tag in "ab":
        (tmp_path / "events/day=2026-01-01" / f"{tag}-0.parquet").unlink()
    assert reading(tmp_path).counts["new"].units == 30
    shutil.rmtree(tmp_path / "events/day=2026-01-02")
    assert reading(tmp_path).counts["new"].units == 20
    assert [path.name for path in (tmp_path / "rollups").glob("day=*")] == ["day=2026-01-01"]
    shutil.rmtree(tmp_path / "events")
    assert roll(tmp_path) == 0
    assert parts(tmp_path) == {}


def test_other_metrics_are_rolled_up_anew(tmp_path: Path) -> None:
    write(tmp_path / "events", answers(0, 4))
    roll(tmp_path)
    (before,) = parts(tmp_path)
    own = parse_metrics(
        '[metrics.x]\ntitle = "x"\nnumerator = { event = "click", where = { item_id = "i1" } }',
        "own",
    )
    update(tmp_path / "events", tmp_path / "rollups", METRICS | own)
    (after,) = parts(tmp_path)
    assert before != after


def test_drafts_and_what_another_release_wrote_are_removed(tmp_path: Path) -> None:
    write(tmp_path / "events", answers(0, 4))
    roll(tmp_path)
    (name,) = parts(tmp_path)
    part = Path(name)
    shutil.copytree(part, part.with_name("0123.draft"))
    (part.with_name("0123.draft") / "part.json").unlink()
    foreign = part.with_name("4567")
    shutil.copytree(part, foreign)
    (foreign / "part.json").write_text('{"id": 1}')
    roll(tmp_path)
    assert [path.name for path in part.parent.iterdir()] == [part.name]


def test_a_part_beside_one_that_took_it_in_counts_for_nothing(tmp_path: Path) -> None:
    write(tmp_path / "events", answers(0, 4))
    roll(tmp_path)
    (small,) = map(Path, parts(tmp_path))
    shutil.copytree(small, tmp_path / "small")
    write(tmp_path / "events", answers(10, 8), tag="b")
    assert roll(tmp_path) == 1
    shutil.copytree(tmp_path / "small", small)
    assert len(parts(tmp_path)) == 2
    assert reading(tmp_path).counts["new"].requests == 12
    assert len(parts(tmp_path)) == 1


def test_progress_is_told_in_files(tmp_path: Path) -> None:
    write(tmp_path / "events", answers(0, 4), files=2)
    write(tmp_path / "events", answers(0, 4, day=1), files=3)
    told: list[tuple[int, int]] = []
    for _ in range(2):
        update(
            tmp_path / "events",
            tmp_path / "rollups",
            METRICS,
            progress=lambda done, total: told.append((done, total)),
        )
    assert told == [(2, 5), (5, 5)]


KILLED = """
import sys
from pathlib import Path
from abtest.analysis.metrics_file import load_metrics
from abtest.analysis.readings.rollup import update
print("ready", flush=True)
update(Path(sys.argv[1]) / "events", Path(sys.argv[1]) / "rollups", load_metrics())
"""


def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    events = world(5, units=30)
    write(tmp_path / "events", events, files=2)
    want = (tmp_path / "whole").absolute()
    holdout = Subject(HOLDOUT, 1, ("held", "open"))
    expected = read(tmp_path / "events", want, holdout, METRICS).counts
    for number in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.06 * number)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    found = read(tmp_path / "events", tmp_path / "rollups", holdout, METRICS).counts
    assert found == expected


def test_files_that_keep_changing_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "events", answers(0, 4))
    monkeypatch.setattr(rollup, "unchanged", lambda *_: False)
    with pytest.raises(RollupError, match=r"archived files of 2026-01-01 .* changed 5 times while"):
        roll(tmp_path)


def test_a_file_that_went_while_it_was_to_be_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive is compacted or erased from while a report is made."""
    write(tmp_path / "events", answers(0, 4), files=2)
    gone = tmp_path / "events/day=2026-01-01/a-1.parquet"
    listed = sources(tmp_path / "events")
    gone.unlink()
    stale = iter([listed])
    monkeypatch.setattr(rollup, "sources", lambda folder: next(stale, sources(folder)))
    assert roll(tmp_path) == 1
    assert list(parts(tmp_path).values()) == [1]


def test_damaged_files_are_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "events", answers(0, 4))
    (tmp_path / "events/day=2026-01-01/broken.parquet").write_bytes(b"PAR1nothing")
    with pytest.raises(Exception, match=r"broken\.parquet"):
        roll(tmp_path)


def test_too_many_kinds_of_items_are_refused(tmp_path: Path) -> None:
    wanted = {
        f"m{n}": {"title": "m", "numerator": {"event": "click", "value": "items"}}
        for n in range(MAX_ITEM_TALLIES + 1)
    }
    text = "\n".join(
        f"[metrics.{name}]\ntitle = 'm'\nnumerator = {{ event = 'click', value = 'items', "
        f"where = {{ item_id = '{name}' }} }}"
        for name in wanted
    )
    with pytest.raises(MetricError, match=r"count 66 different kinds of items; 62 are the most"):
        update(tmp_path, tmp_path / "rollups", METRICS | parse_metrics(text, "own"))


def test_sources_are_known_by_name_size_and_time(tmp_path: Path) -> None:
    write(tmp_path, [answers(0, 1)[0]])
    found = sources(tmp_path)
    (file,) = found[date(2026, 1, 1)]
    status = (tmp_path / "day=2026-01-01/a-0.parquet").stat()
    assert file == Source("a-0.parquet", status.st_size, status.st_mtime_ns)
    assert json.loads(json.dumps(file)) == list(file)


def test_refunds_and_late_feedback_land_on_their_own_day(tmp_path: Path) -> None:
    answer = ranking("a", "u1", [assignment("new")])
    bought = conversion(answer, 0, 5_000_000)
    back = conversion(answer, 0, -2_000_000, refund_of=bought.event_id)
    late = back.model_copy(update={"event_ts_us": back.event_ts_us + 3 * DAY_US})
    write(tmp_path / "events", [answer, click(answer, 0), bought, late])
    counts = reading(tmp_path).counts["new"]
    assert (counts.revenue_micros, counts.refunds, counts.bought_items) == (3_000_000, 1, 1)
    assert [(str(day.day), day.new_units, day.revenue_micros) for day in counts.days] == [
        ("2026-01-01", 1, 5_000_000),
        ("2026-01-04", 0, -2_000_000),
    ]
    assert len(reading(tmp_path).days) == 4
