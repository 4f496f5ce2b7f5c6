import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import feather

from training.recflow import schema
from training.recflow.generator import generate
from training.recflow.log import LISTS, LogError

DAYS = ("2024-01-13", "2024-01-14")
Int64 = NDArray[np.int64]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of 200 requests without gaps."""
    out = tmp_path_factory.mktemp("generator") / "full"
    generate(out, requests=400, days=2, seed=3)
    return out


def _rows(root: Path, day: str, folder: str = schema.ROWS) -> dict[str, Int64]:
    table = feather.read_table(root / folder / f"{day}.feather")
    return {name: table[name].to_numpy() for name in table.schema.names}


def _pickled(root: Path, folder: str, day: str) -> dict[int, Any]:
    content: dict[int, Any] = pickle.loads((root / folder / f"{day}.pkl").read_bytes())
    return content


def test_the_files_are_those_published(full: Path) -> None:
    files = sorted(str(file.relative_to(full)) for file in full.glob("*/*"))
    per_day = [("all_stage", "feather"), ("realshow", "feather"), ("request_id_dict", "pkl")]
    per_day.append(("seq_effective_50_dict", "pkl"))
    expected = [f"{folder}/{day}.{kind}" for folder, kind in per_day for day in DAYS]
    expected += ["others/id_cnt.pkl", "others/realshow_video_info.feather"]
    assert files == sorted(expected)
    counts = pickle.loads((full / schema.COUNTS).read_bytes())
    assert list(counts)[:2] == ["request_id", "user_id"]
    assert counts[" category_level_two"] == 784
    assert tuple(_rows(full, DAYS[0])) == schema.ROW_COLUMNS
    assert " category_level_two" in _rows(full, DAYS[0], schema.EXPOSURES)
    for day in DAYS:
        assert {h.shape for h in _pickled(full, schema.HISTORIES, day).values()} == {(50, 10)}


def test_equal_seeds_give_equal_files_and_others_do_not(full: Path, tmp_path: Path) -> None:
    def digests(root: Path) -> dict[str, str]:
        return {
            str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in root.glob("*/*")
        }

    calls: list[tuple[str, int, int]] = []
    generate(
        tmp_path / "same", requests=400, days=2, seed=3, progress=lambda *call: calls.append(call)
    )
    generate(tmp_path / "other", requests=400, days=2, seed=4)
    assert digests(tmp_path / "same") == digests(full)
    same = set(digests(tmp_path / "other").items()) & set(digests(full).items())
    assert [name for name, _ in same] == ["others/id_cnt.pkl"]
    assert calls[-1] == ("generate", 1000, 1000)


def test_lists_and_rows_agree_and_are_full(full: Path) -> None:
    for day in DAYS:
        rows = _rows(full, day)
        logged = _pickled(full, schema.LOGGED_LISTS, day)
        pairs = np.stack([rows["request_id"], rows["video_id"]], axis=1)
        assert len(np.unique(pairs, axis=0)) == len(pairs) == 50 * len(logged)
        assert len(logged) == 200
        for name in schema.FLAGS:
            flagged = {tuple(pair) for pair in pairs[rows[name] == 1].tolist()}
            listed = [(r, int(video)) for r, of in logged.items() for video in of[name][:, 0]]
            assert len(listed) == len(set(listed))
            assert set(listed) == flagged
        assert {len(of[name]) for of in logged.values() for name in LISTS} == {10}
        assert {len(of["realshow"]) for of in logged.values()} == {3, 4, 5, 6}


def test_each_stage_only_sees_what_the_stage_before_passed(full: Path) -> None:
    rows = _rows(full, DAYS[0])
    passed = rows["rerank_pos"] + rows["rerank_neg"]
    lost = rows["rank_neg"] + rows["coarse_neg"] + rows["prerank_neg"]
    np.testing.assert_array_equal(passed + lost, 1)
    assert (passed >= rows["rank_pos"]).all()
    assert (rows["rerank_pos"] >= rows["realshow"]).all()
    for name, places in (("rank_index", 20), ("rerank_index", 20)):
        found = rows[name][passed == 1].reshape(200, places)
        np.testing.assert_array_equal(np.sort(found, axis=1), [np.arange(places)] * 200)
    won = rows["rerank_index"] < 10
    np.testing.assert_array_equal(won[passed == 1], rows["rerank_pos"][passed == 1] == 1)


def test_feedback_is_of_what_was_shown_and_effective_views_are_long_enough(full: Path) -> None:
    rows = _rows(full, DAYS[1])
    for name in schema.FEEDBACK:
        assert not rows[name][rows["realshow"] == 0].any()
    shown = {name: values[rows["realshow"] == 1] for name, values in rows.items()}
    share = shown["playing_time"] / shown["duration"]
    np.testing.assert_array_equal(shown["effective_view"] == 1, share >= 0.3)
    np.testing.assert_array_equal(shown["long_view"] == 1, share >= 1)
    assert 0.3 < shown["effective_view"].mean() < 0.8


def test_a_history_is_what_its_user_watched_before(full: Path) -> None:
    watched: dict[int, list[list[int]]] = {}
    compared = 0
    for day in DAYS:
        rows = _rows(full, day)
        histories = _pickled(full, schema.HISTORIES, day)
        order = np.lexsort((rows["request_timestamp"],))
        views = np.stack([rows[name] for name in schema.HISTORY_COLUMNS], axis=1)
        for first in order[::50]:
            request, user = int(rows["request_id"][first]), int(rows["user_id"][first])
            mine = rows["request_id"] == request
            history = histories[request][histories[request][:, 7] > 0]
            past = watched.setdefault(user, [])
            assert (history[:, 7] < rows["request_timestamp"][first]).all()
            assert (np.diff(history[:, 7]) >= 0).all()
            recent = history[len(history) - len(past[-50:]) :]
            assert sorted(map(tuple, recent)) == sorted(map(tuple, past[-50:]))
            compared += len(recent)
            past += views[mine & (rows["effective_view"] == 1)].tolist()
    assert compared > 1000


def test_what_users_watched_tells_what_wins(full: Path) -> None:
    alike: dict[str, list[float]] = {name: [] for name in LISTS}
    histories = _pickled(full, schema.HISTORIES, DAYS[1])
    for request, lists in _pickled(full, schema.LOGGED_LISTS, DAYS[1]).items():
        for name in LISTS:
            alike[name].append(np.isin(lists[name][:, 3], histories[request][:, 2]).mean())
    assert np.mean(alike["rank_pos"]) > 1.3 * np.mean(alike["prerank_neg"])


def test_uploads_precede_requests_and_churn(full: Path) -> None:
    first, second = (_rows(full, day) for day in DAYS)
    for rows in (first, second):
        age_s = rows["request_timestamp"] // 1000 - rows["upload_timestamp"]
        assert age_s.min() > 0
        assert age_s.max() < 7 * 86400
    fresh = second["upload_timestamp"] > first["upload_timestamp"].max()
    assert 0.2 < fresh.mean() < 0.8
    videos = np.concatenate([first["video_id"], second["video_id"]])
    assert len(np.unique(videos)) > 1000


def test_gaps_are_made_on_demand(tmp_path: Path) -> None:
    generate(tmp_path / "gaps", requests=200, days=1, seed=0, short_share=0.5, missing_share=0.2)
    rows = _rows(tmp_path / "gaps", DAYS[0])
    logged = _pickled(tmp_path / "gaps", schema.LOGGED_LISTS, DAYS[0])
    lengths = [len(lists.get(name, ())) for lists in logged.values() for name in LISTS]
    assert {0, 1, 9, 10} <= set(lengths)
    assert any("rank_pos" not in lists for lists in logged.values())
    short = np.array([any(len(of.get(name, ())) < 10 for name in LISTS) for of in logged.values()])
    assert 0.35 < short.mean() < 0.65
    listed = sum(len(lists.get("rank_pos", ())) for lists in logged.values())
    assert 0.7 < rows["rank_pos"].sum() / listed < 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"days": 0}, "days == 0 must be at least 1"),
        ({"requests": 39}, "requests == 39 must be at least 40, 20 for each day"),
        ({"short_share": 1.5}, r"short_share == 1\.5 must be in \[0, 1\]"),
        ({"missing_share": -1.0}, r"missing_share == -1\.0 must be in \[0, 1\]"),
    ],
)
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(LogError, match=message):
        generate(tmp_path / "out", **{"requests": 100, "days": 2, "seed": 0, **arguments})
    assert not any(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_kept(full: Path) -> None:
    with pytest.raises(LogError, match="full is not empty; choose another folder or remove it"):
        generate(full, requests=100, days=2, seed=0)
