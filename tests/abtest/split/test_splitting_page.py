import re
from pathlib import Path

from abtest.analysis.metrics_file import load_metrics
from abtest.split.config import ExperimentConfig, parse_config
from abtest.split.experiment import Condition, Experiment, State
from abtest.split.splitter import Splitter
from abtest.split.toml import to_toml
from serving.cascade.policy import check_policies

PAGE = Path(__file__).parents[3] / "docs" / "splitting.md"


def example() -> ExperimentConfig:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return parse_config(block)


def test_the_example_is_a_configuration() -> None:
    found = example()
    assert parse_config(to_toml(found)) == found
    assert {experiment.state for experiment in found.experiments()} == {
        State.RUNNING,
        State.DRAFT,
        State.AA,
    }
    during_us = 1_773_000_000 * 10**6
    split = Splitter(found).assign("tester-1", now_us=during_us)
    assert split.params["bundle"] == "dftopk"
    assert {given.key for given in split.assignments} >= {"first-half-2026", "dftopk-vs-baseline"}


def test_the_example_sets_parameters_that_the_server_knows() -> None:
    check_policies(example())


def test_the_example_measures_what_is_defined() -> None:
    known = load_metrics(None)
    for experiment in example().experiments():
        rails = (rail.metric for rail in experiment.guardrails)
        for name in (experiment.primary_metric, *experiment.secondary_metrics, *rails):
            assert name in known


def test_the_page_names_every_state_and_every_field_that_decides_a_split() -> None:
    text = PAGE.read_text()
    for name in (*State, *Experiment.model_fields, *Condition.model_fields):
        assert name in text, name
