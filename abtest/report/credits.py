"""Credits: which bundle's items users took, where two lists were merged by team draft."""

from pathlib import Path

import duckdb
import numpy as np

from abtest.analysis.statistics.interleaving import preference
from abtest.report.model import Interleaving
from abtest.report.trial import Trial

# An item that was taken counts once an answer, for the team of the position it stood at.
_TAKEN = """
WITH answers AS (
    SELECT DISTINCT ON (event_id) request_id, unit, teams
    FROM (SELECT *, unnest(assignments) AS given FROM events
          WHERE type = 'ranking' AND len(teams) > 0)
    WHERE given.key = $key AND given.revision = $revision AND NOT given.forced
), taken AS (
    SELECT DISTINCT answers.unit, answers.request_id, type, item_id,
        answers.teams[position + 1] AS team
    FROM events JOIN answers USING (request_id)
    WHERE type = 'click' OR (type = 'conversion' AND refund_of IS NULL)
)
SELECT units.unit,
    count(*) FILTER (type = 'click' AND team = $a),
    count(*) FILTER (type = 'click' AND team = $b),
    count(*) FILTER (type = 'conversion' AND team = $a),
    count(*) FILTER (type = 'conversion' AND team = $b)
FROM (SELECT DISTINCT unit FROM answers) units LEFT JOIN taken USING (unit)
GROUP BY units.unit ORDER BY units.unit
"""


def interleaving(events_folder: Path, trial: Trial) -> Interleaving | None:
    """Which of the two bundles users took more from; None where no answer was interleaved.

    Forced traffic and other revisions are left out.

    Args:
        events_folder: the archived events.
        trial: its `teams` are the bundles.
    """
    if trial.teams is None:
        return None
    files = sorted(str(path) for path in events_folder.glob("day=*/*.parquet"))
    a, b = trial.teams
    with duckdb.connect() as connection:
        events = connection.read_parquet(files, hive_partitioning=False, union_by_name=True)
        if "teams" not in events.columns:  # all written before lists were interleaved
            return None
        events.create_view("events")
        chosen = {"key": trial.subject.key, "revision": trial.subject.revision, "a": a, "b": b}
        rows = connection.execute(_TAKEN, chosen).fetchall()
    if not rows:
        return None
    credits = np.array([row[1:] for row in rows], dtype=np.float64)
    clicks_a, clicks_b, purchases_a, purchases_b = (int(total) for total in credits.sum(axis=0))
    return Interleaving(
        a=a,
        b=b,
        clicks_a=clicks_a,
        clicks_b=clicks_b,
        purchases_a=purchases_a,
        purchases_b=purchases_b,
        preference=preference(credits[:, 0], credits[:, 1]),
    )
