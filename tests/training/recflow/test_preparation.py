import pickle
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import feather

from training.recflow.log import ITEM_FIELDS, LISTS, REQUEST_FIELDS, LogError, PreparedLog
from training.recflow.preparation import VOCABULARIES, prepare
from training.recflow.preparation_report import DayReport, PreparationReport, render

CHINA = timezone(timedelta(hours=8))
Published = dict[str, dict[int, dict[str, Any]]]
TENSORS = ("request", "seq_arr", "seq_mask", *LISTS, "ranks")


def _clock(timestamp_s: int) -> list[int]:
    moment = datetime.fromtimestamp(timestamp_s, CHINA)
    return [moment.weekday() + 1, moment.hour + 1, moment.minute + 1]


def _published(root: Path, day: str) -> dict[int, dict[str, Any]]:
    """What the published data sets give for each request, built row by row."""
    rows = feather.read_table(root / "all_stage" / f"{day}.feather").to_pylist()
    histories = pickle.loads((root / "seq_effective_50_dict" / f"{day}.pkl").read_bytes())
    logged = pickle.loads((root / "request_id_dict" / f"{day}.pkl").read_bytes())
    places: dict[tuple[str, int, int], int] = {}
    for row in rows:
        for name, column in (("rank_pos", "rank_index"), ("rerank_pos", "rerank_index")):
            if row[name] == 1:
                places.setdefault((name, row["request_id"], row["video_id"]), row[column])
    requests: dict[int, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["request_timestamp"], row["request_id"])):
        request = row["request_id"]
        if request in requests:
            continue
        ids = ("user_id", "device_id", "gender", "age", "province")
        seq = []
        for video, author, two, one, upload, *_, moment, _, _ in histories[request].tolist():
            behaviour = [video + 1, author + 1, two + 1, one, upload + 1]
            seq.append(behaviour if moment > 0 else [video, author, two, one, upload])
        requests[request] = {
            "request": _clock(row["request_timestamp"] // 1000) + [row[name] + 1 for name in ids],
            "seq_arr": seq,
            "seq_mask": [moment > 0 for moment in histories[request][:, 7]],
            "ranks": [],
        }
        for name in LISTS:
            photos, ranks = [[0, 0, 0, 2, 0, 0, 0, 0]] * 10, [255] * 10
            for slot, listed in enumerate(logged[request].get(name, np.zeros((0, 8)))[:10]):
                video, author, _, two, upload, moment, one, _ = map(int, listed)
                photos[slot] = [video + 1, author + 1, two + 1, one, upload + 1, *_clock(moment)]
                ranks[slot] = places.get((name, request, video), 255)
            requests[request][name] = photos
            requests[request]["ranks"] += ranks
    return requests


def _of_log(log: PreparedLog, day_name: str) -> dict[int, dict[str, NDArray[Any]]]:
    """The same from the prepared log."""
    day = log.day(day_name)
    ids = {file.stem: np.load(file) for file in (log.path / VOCABULARIES).iterdir()}

    def shown(fields: NDArray[np.int32], names: tuple[str, ...]) -> NDArray[Any]:
        shown = fields.astype(np.int64)
        for place, name in enumerate(names):
            if name in ids:
                shown[..., place] = ids[name][fields[..., place]] + 1
        if "category_level_one" in names:  # it alone is published unshifted, with 2 as padding
            one = names.index("category_level_one")
            shown[..., one] = np.where(fields[..., one] == 0, 2, shown[..., one] - 1)
        return shown

    fields = shown(day.fields, REQUEST_FIELDS)
    items = shown(log.items_IF, ITEM_FIELDS)
    return {
        request: {
            "request": fields[r],
            "seq_arr": items[day.history[r]][:, :5],
            "seq_mask": day.history[r] > 0,
            **{
                name: items[day.candidates[r, 10 * n : 10 * n + 10]] for n, name in enumerate(LISTS)
            },
            "ranks": day.ranks[r],
        }
        for r, request in enumerate(day.request_ids.tolist())
    }


@pytest.fixture(scope="module")
def published(published_log: Path, prepared_log: PreparedLog) -> Published:
    return {day: _published(published_log, day) for day in prepared_log.meta.days}


def test_the_log_holds_the_published_tensors(
    published: Published, prepared_log: PreparedLog
) -> None:
    for day, expected in published.items():
        found = _of_log(prepared_log, day)
        assert list(found) == list(expected)
        for name in TENSORS:
            np.testing.assert_array_equal(
                np.stack([request[name] for request in found.values()]),
                np.array([request[name] for request in expected.values()]),
                err_msg=f"{day} {name}",
            )


def test_the_report_counts_what_is_there(
    published: Published, published_log: Path, tmp_path: Path
) -> None:
    report = prepare(published_log, tmp_path / "log")

    for day in report.days:
        requests = list(published[day.day].values())
        short = {name: sum(r[name][-1][0] == 0 for r in requests) for name in LISTS}
        assert day.requests == len(requests) == 300
        assert day.short_lists == short
        assert min(short.values()) > 0
        for name, unknown in day.missing_ranks.items():
            first = 10 * LISTS.index(name)
            filled = sum(photo[0] > 0 for r in requests for photo in r[name])
            known = sum(rank < 255 for r in requests for rank in r["ranks"][first : first + 10])
            assert unknown == filled - known > 0
        assert day.without_history == sum(not any(r["seq_mask"]) for r in requests)
        shown = feather.read_table(published_log / "realshow" / f"{day.day}.feather")
        assert day.exposures == len(shown)
    log = PreparedLog(tmp_path / "log")
    assert report.items == sum(day.new_items for day in report.days) == len(log.items_IF) - 1
    assert len(np.unique(log.items_IF, axis=0)) == len(log.items_IF)
    for name, number in report.seen.items():
        ids = np.load(tmp_path / "log" / VOCABULARIES / f"{name}.npy")
        assert number == len(ids) - 1 == len(np.unique(ids[1:])) <= report.published[name]


def test_later_days_change_nothing_of_earlier_ones(
    published_log: Path, prepared_log: PreparedLog, tmp_path: Path
) -> None:
    shutil.copytree(published_log, tmp_path / "data")
    for file in (tmp_path / "data").glob("*/2024-01-15.*"):
        file.unlink()
    prepare(tmp_path / "data", tmp_path / "log")
    log = PreparedLog(tmp_path / "log")

    assert log.meta.days == prepared_log.meta.days[:2]
    assert log.meta.items == prepared_log.meta.items[:2]
    assert log.meta.fingerprint != prepared_log.meta.fingerprint
    for day in log.meta.days:
        for former, now in zip(log.day(day), prepared_log.day(day), strict=True):
            np.testing.assert_array_equal(former, now)
    np.testing.assert_array_equal(log.items_IF, prepared_log.items_IF[: log.meta.items[-1]])
    for name, ends in log.meta.vocabularies.items():
        assert ends == prepared_log.meta.vocabularies[name][:2]
        if name not in ("weekday", "hour", "minute"):
            former, now = (
                np.load(at.path / VOCABULARIES / f"{name}.npy") for at in (log, prepared_log)
            )
            assert len(former) == ends[-1]
            np.testing.assert_array_equal(former, now[: len(former)])


def test_what_is_known_at_the_end_of_a_day_is_all_that_it_uses(prepared_log: PreparedLog) -> None:
    meta = prepared_log.meta
    for n, name in enumerate(meta.days):
        day = prepared_log.day(name)
        assert max(day.history.max(), day.candidates.max()) == meta.items[n] - 1
        known = prepared_log.items_IF[: meta.items[n]].max(axis=0)
        for field, most in zip(ITEM_FIELDS, known, strict=True):
            assert most < meta.vocabularies[field][n]
        for field, most in zip(REQUEST_FIELDS, day.fields.max(axis=0), strict=True):
            assert 0 < most < meta.vocabularies[field][n]


def test_a_log_is_replaced_whole_and_nothing_else_is(
    published_log: Path, prepared_log: PreparedLog, tmp_path: Path
) -> None:
    calls: list[tuple[str, int, int]] = []
    out = tmp_path / "log"
    shutil.copytree(prepared_log.path, out)
    (out / "stale").touch()
    prepare(published_log, out, name="again", progress=lambda *call: calls.append(call))
    assert not (out / "stale").exists()
    assert PreparedLog(out).meta == prepared_log.meta.model_copy(update={"name": "again"})
    assert calls == [("prepare", done, 3) for done in range(4)]

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(
        LogError, match="photos exists and is no prepared log; choose another --out"
    ):
        prepare(published_log, tmp_path / "photos")

    shutil.copytree(published_log, tmp_path / "data")
    (tmp_path / "data" / "all_stage" / "2024-01-15.feather").write_bytes(b"")
    with pytest.raises(LogError, match=r"15\.feather is empty"):
        prepare(tmp_path / "data", out)
    assert PreparedLog(out).meta.name == "again"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "log", "photos"]


def test_the_report_reads_well() -> None:
    days = [
        DayReport(
            day=f"2024-01-1{n}",
            requests=1000 * n,
            short_lists={"rank_pos": n, "rank_neg": 0},
            missing_ranks={"rank_pos": 0},
            without_history=7,
            new_items=20,
            exposures=4,
        )
        for n in (3, 4)
    ]
    report = PreparationReport(
        days=tuple(days), items=40, seen={"video_id": 39}, published={"video_id": 82216301}
    )
    assert render(report).splitlines() == [
        "       day  requests  no history  exposures  new items  short lists  no rank",
        "2024-01-13     3,000           7          4         20            3        0",
        "2024-01-14     4,000           7          4         20            4        0",
        "",
        "lists shorter than 10: rank_pos 7",
        "unknown ranks: none",
        "ids seen: video_id 39 of 82,216,301",
        "items: 40",
    ]
