"""What docs/metrics.md shows is accepted."""

import re
from pathlib import Path

from abtest.analysis.metrics_file import parse_metrics
from abtest.analysis.readings.currency import load_currencies

PAGE = Path(__file__).parents[3] / "docs/metrics.md"


def test_its_examples_are_valid(tmp_path: Path) -> None:
    metrics, currencies = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(parse_metrics(metrics, "docs")) == 3
    path = tmp_path / "currencies.toml"
    path.write_text(currencies)
    assert load_currencies(path) is not None
