import pytest

from abtest.report.trial import check_metrics, trial, trials
from abtest.split.config import parse_config
from abtest.split.experiment import ExperimentError
from tests.abtest.report.made import METRICS

CONFIG = parse_config(
    """
    version = 1
    [defaults]
    bundle = "old"
    interleave_with = ""
    [[holdouts]]
    key = "everything"
    seed = "h"
    share = 0.05
    [[layers]]
    name = "model"
    unit = "session"
    seed = "s1"
    [[layers.experiments]]
    key = "ranker"
    revision = 3
    state = "running"
    slots = [0, 5000]
    control = "old"
    planned_units = 1000
    segments = ["country"]
    secondary_metrics = ["click_rate"]
    guardrails = [{ metric = "latency_p99" }, { metric = "click_rate" }]
    variants = [
        { name = "old", weight = 0.5 },
        { name = "mixed", weight = 0.5, params = { interleave_with = "new" } },
    ]
    [[layers.experiments]]
    key = "idea"
    revision = 1
    state = "draft"
    control = "old"
    variants = [{ name = "old", weight = 0.5 }, { name = "new", weight = 0.5 }]
    [[layers]]
    name = "prices"
    seed = "s2"
    [[layers.experiments]]
    key = "hours"
    revision = 1
    state = "running"
    control = "old"
    switchback = { period_min = 60 }
    variants = [{ name = "old", weight = 0.5 }, { name = "new", weight = 0.5 }]
    """
)


def test_an_experiment_is_compared_as_it_is_declared() -> None:
    found = trial(CONFIG, "ranker")
    assert (found.subject.key, found.subject.revision) == ("ranker", 3)
    assert (found.layer, found.unit, found.control) == ("model", "session", "old")
    assert found.variants == ("mixed",)
    assert dict(found.weights) == {"old": 0.5, "mixed": 0.5}
    assert found.used_metrics == ("revenue_per_unit", "latency_p99", "click_rate")
    assert (found.planned_units, found.segments) == (1000, ("country",))
    assert found.teams == ("old", "new")


def test_all_but_drafts_have_a_report() -> None:
    assert [found.subject.key for found in trials(CONFIG)] == ["ranker", "hours", "everything"]


def test_the_unit_of_a_switchback_is_a_period() -> None:
    found = trial(CONFIG, "hours")
    assert (found.unit, found.teams) == ("period", None)


def test_a_holdout_is_compared_like_an_experiment() -> None:
    found = trial(CONFIG, "everything")
    assert (found.state, found.layer, found.control) == ("holdout", "holdout", "held")
    assert found.subject.variants == ("held", "open")
    assert dict(found.weights) == {"held": 0.05, "open": 0.95}


def test_faults_are_named() -> None:
    with pytest.raises(ExperimentError, match="experiment 'idea' is a draft; start it to have a"):
        trial(CONFIG, "idea")
    with pytest.raises(
        ExperimentError,
        match=r"no experiment 'x'; known are \['everything', 'hours', 'idea', 'ranker'\]",
    ):
        trial(CONFIG, "x")
    few = {"revenue_per_unit": METRICS["revenue_per_unit"]}
    with pytest.raises(
        ExperimentError,
        match=r"experiment ranker: metric 'latency_p99' is not declared; known are \['revenue_",
    ):
        check_metrics(trial(CONFIG, "ranker"), few)
