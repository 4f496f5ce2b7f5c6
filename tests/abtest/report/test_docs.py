import re
from pathlib import Path

from abtest.report import decision
from abtest.report.trial import check_metrics, trial
from abtest.split.change import aa, ramp, ship, start
from abtest.split.config import parse_config
from tests.abtest.report.made import METRICS

DOCS = Path(__file__).parents[3] / "docs" / "experiments.md"


def test_the_example_can_be_followed() -> None:
    text = DOCS.read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    config = parse_config(example)
    running = ramp(start(aa(config, "dftopk"), "dftopk"), "dftopk", 0.5)
    check_metrics(trial(running, "dftopk"), METRICS)
    assert running.experiment("dftopk").revision == 2
    assert ship(running, "dftopk", "dftopk").experiment("dftopk").winner == "dftopk"


def test_every_call_is_explained() -> None:
    calls = {decision.SHIP, decision.STOP, decision.WAIT, decision.HOLD, decision.BLOCKED}
    assert set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE)) == calls
