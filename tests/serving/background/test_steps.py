"""The steps, where there is nothing to do."""

import subprocess
import sys
from pathlib import Path

NOTHING_TO_DO = """
import sys
from pathlib import Path
import redis
from serving.background.steps import Place, steps
from serving.settings import Settings

settings = Settings(data_dir=Path(sys.argv[1]))
(report,) = (step for step in steps(settings) if step.name == "report")
assert report.run(Place(settings, redis.Redis(port=1))) == {}
print(*sorted({"scipy", "duckdb", "matplotlib"} & sys.modules.keys()))
"""


def test_without_archived_events_no_report_is_made_and_nothing_loaded_for_it(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NOTHING_TO_DO, tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
