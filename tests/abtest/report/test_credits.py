from pathlib import Path

import pyarrow.parquet as pq
import redis

from abtest.events import Event, RankingEvent
from abtest.report.credits import interleaving
from abtest.report.trial import trial
from tests.abtest.traffic import (
    archived,
    assignment,
    click,
    config,
    conversion,
    ranking,
)

TRIAL = trial(config(), "new-vs-old")._replace(teams=("old", "new"))


def mixed(number: int, teams: tuple[str, ...], *, forced: bool = False) -> RankingEvent:
    answer = ranking(f"r{number}", f"u{number}", [assignment("new", forced=forced)], items=4)
    return answer.model_copy(update={"teams": teams})


def test_credits_by_hand(valkey: redis.Redis, tmp_path: Path) -> None:
    a = mixed(1, ("old", "new", "old", ""))
    b = mixed(2, ("new", "old", "old", "new"))
    c = mixed(3, ("new", "old", "new", "old"))
    forced = mixed(4, ("new", "old", "new", "old"), forced=True)
    other = mixed(5, ("new",) * 4).model_copy(
        update={"experiments": (assignment("new", revision=2),)}
    )
    plain = ranking("r6", "u6", [assignment("new")], items=4)
    bought = conversion(b, 3, 5_000_000)
    events: list[Event] = [
        *(a, b, c, forced, other, plain),
        *(click(a, 0, "k1"), click(a, 0, "k2"), click(a, 1), click(a, 3)),  # once an item; nobody's
        *(click(b, 0), click(b, 3), bought, conversion(b, 3, -1, refund_of=bought.event_id)),
        *(click(forced, 0), click(other, 0), click(plain, 0)),
    ]
    found = interleaving(archived(valkey, events, tmp_path / "events"), TRIAL)
    assert found is not None
    assert (found.a, found.b) == ("old", "new")
    assert (found.clicks_a, found.clicks_b) == (1, 1 + 2)
    assert (found.purchases_a, found.purchases_b) == (0, 1)
    preference = found.preference
    assert (preference.units, preference.wins_a, preference.wins_b, preference.ties) == (3, 0, 1, 2)


def test_none_where_nothing_was_interleaved(valkey: redis.Redis, tmp_path: Path) -> None:
    plain = ranking("r6", "u6", [assignment("new")])
    folder = archived(valkey, [plain], tmp_path / "events")
    assert interleaving(folder, TRIAL) is None
    assert interleaving(folder, TRIAL._replace(teams=None)) is None


def test_files_from_before_lists_were_interleaved_are_read(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    folder = archived(valkey, [ranking("r6", "u6", [assignment("new")])], tmp_path / "events")
    (file,) = folder.glob("day=*/*.parquet")
    old = pq.ParquetFile(file).read()
    pq.write_table(old.drop_columns(["teams"]), file)
    assert interleaving(folder, TRIAL) is None
    b = mixed(2, ("new", "old", "old", "new"))
    archived(valkey, [b, click(b, 0)], folder)
    found = interleaving(folder, TRIAL)
    assert found is not None
    assert (found.clicks_a, found.clicks_b) == (0, 1)
