from datetime import date
from typing import Any

import pytest

from abtest.analysis.statistics.effect import Effect, Exposure, Guard, Interval, SampleRatio
from abtest.report.decision import decide
from abtest.report.evidence import Evidence
from abtest.split.experiment import State
from tests.abtest.report.made import METRICS

FAIR = SampleRatio(p_value=0.4, ok=True, expected={"old": 5000.0, "new": 5000.0})
BROKEN = SampleRatio(p_value=1e-9, ok=False, expected={"old": 5000.0, "new": 5000.0})
DAY = date(2026, 1, 14)


def effect(
    absolute: float,
    half: float = 0.5,
    sequence: float | None = 0.9,
    *,
    variant: str = "new",
    p_adjusted: float | None = None,
    metric: str = "revenue_per_unit",
) -> Effect:
    always = (
        None if sequence is None else Interval(low=absolute - sequence, high=absolute + sequence)
    )
    return Effect(
        metric=metric,
        variant=variant,
        control_value=10,
        variant_value=10 + absolute,
        absolute=absolute,
        interval=Interval(low=absolute - half, high=absolute + half),
        relative=absolute / 10,
        relative_interval=None,
        p_value=0.01,
        p_adjusted=p_adjusted,
        always_valid=always,
        units=10_000,
        detectable=0.75,
        method="Welch's t-test",
    )


def guard(low: float, high: float, *, variant: str = "new", broken: bool = False) -> Guard:
    found = effect(0.1, variant=variant, metric="latency_p99")
    return Guard(effect=found, tolerance=0.05, harm=Interval(low=low, high=high), broken=broken)


def evidence(*primary: Effect, days: int = 14, crossed: int = 0, **given: Any) -> Evidence:  # noqa: ANN401
    last = date(2026, 1, days)
    base = Evidence(
        state=State.RUNNING,
        control="old",
        units=10_000,
        planned_units=10_000,
        ratio=FAIR,
        exposure=Exposure(
            first_day=date(2026, 1, 1),
            last_day=last,
            crossed_units=crossed,
            forced_units=0,
            unexposed_feedback=0,
            degraded_p_value=None,
        ),
        metrics={name: METRICS[name] for name in ("revenue_per_unit", "latency_p99")},
        primary_metric="revenue_per_unit",
        currency="USD",
        primary=primary,
        planned_day=None,
        planned=(),
        guards=(),
    )
    return base._replace(**given)


def at_plan(*primary: Effect, **given: Any) -> Evidence:  # noqa: ANN401
    """Two weeks in, and the planned units have come."""
    return evidence(*primary, **{"planned_day": DAY, "planned": primary, **given})


def test_a_broken_split_comes_before_everything() -> None:
    found = decide(at_plan(effect(3), ratio=BROKEN, guards=(guard(0.1, 0.2, broken=True),)))
    assert (found.call, found.variant) == ("blocked", None)
    assert found.reasons[0].startswith(
        "The units are not split as configured: sample ratio mismatch, p = 1.0e-09."
    )
    assert "USD" not in " ".join(found.reasons)


def test_too_many_crossed_units_block() -> None:
    found = decide(at_plan(effect(3), crossed=102))
    assert found.call == "blocked"
    assert found.reasons[0].startswith("102 units (1.01 %) were seen in more than one variant")
    assert decide(at_plan(effect(3), crossed=101)).call == "ship"


@pytest.mark.parametrize(
    ("given", "call", "variant"),
    [
        # At the plan the fixed horizon is enough.
        (at_plan(effect(0.6)), "ship", "new"),
        (at_plan(effect(0.4)), "hold", None),
        (at_plan(effect(-0.6)), "stop", None),
        # Before, only the confidence sequence is.
        (evidence(effect(0.6), units=5000), "wait", None),
        (evidence(effect(1.0), units=5000), "ship", "new"),
        (evidence(effect(-1.0), units=5000), "stop", None),
        (evidence(effect(-0.6), units=5000), "wait", None),
        # A win waits for a full week, harm does not.
        (evidence(effect(1.0), units=5000, days=6), "wait", None),
        (evidence(effect(-1.0), units=5000, days=1), "stop", None),
        # What the fixed horizon says later does not count: it was read at the plan.
        (evidence(effect(0.6), planned_day=DAY, planned=(effect(0.4),)), "hold", None),
        (evidence(effect(0.4), planned_day=DAY, planned=(effect(0.6),)), "ship", "new"),
        # Nothing was planned: only the sequence decides.
        (evidence(effect(0.6), planned_units=None), "wait", None),
        (evidence(effect(1.0), planned_units=None), "ship", "new"),
        # The day of the plan is not over.
        (evidence(effect(0.6)), "wait", None),
        # A guardrail that is broken outweighs a win.
        (at_plan(effect(3), guards=(guard(0.06, 0.2, broken=True),)), "stop", None),
        (at_plan(effect(3), guards=(guard(0.01, 0.2),)), "ship", "new"),
        # Too few units for a confidence sequence.
        (evidence(effect(3, sequence=None), units=150), "wait", None),
        (evidence(), "wait", None),
    ],
)
def test_what_to_do(given: Evidence, call: str, variant: str | None) -> None:
    found = decide(given)
    assert (found.call, found.variant) == (call, variant)
    assert found.headline
    assert found.reasons


def test_of_several_the_best_that_stands_holm_is_shipped() -> None:
    good, best = effect(0.6, p_adjusted=0.03), effect(0.8, variant="newer", p_adjusted=0.02)
    assert decide(at_plan(good, best)).variant == "newer"
    chance = effect(0.8, variant="newer", p_adjusted=0.06)
    assert decide(at_plan(good, chance)).variant == "new"
    assert decide(at_plan(effect(0.6, p_adjusted=0.06), chance)).call == "hold"
    sure = effect(1.0, variant="newer", p_adjusted=0.06)
    assert decide(evidence(sure, good, units=5000)).call == "wait"


def test_one_variants_harm_does_not_keep_another_from_shipping() -> None:
    good, bad = effect(0.6, p_adjusted=0.03), effect(-2, variant="newer", p_adjusted=0.01)
    found = decide(at_plan(good, bad))
    assert (found.call, found.variant) == ("ship", "new")
    stopped = decide(evidence(effect(0.1), bad, units=5000))
    assert stopped.call == "stop"
    assert stopped.headline == "Stop: newer does harm."
    assert stopped.reasons[-1] == "Start a new revision without newer to go on with new."
    broken = guard(0.06, 0.2, variant="newer", broken=True)
    better = effect(2, variant="newer", p_adjusted=0.01)
    assert decide(at_plan(good, better, guards=(broken,))).variant == "new"


def test_less_is_better_where_the_metric_says_so() -> None:
    latency = {"primary_metric": "latency_p99"}
    faster, slower = (effect(gain, metric="latency_p99") for gain in (-2, 2))
    found = decide(at_plan(faster, **latency))
    assert (found.call, found.variant) == ("ship", "new")
    assert found.headline == "Ship new: it lowers time of an answer, 99th percentile by 20.00 %."
    assert decide(at_plan(slower, **latency)).call == "stop"


def test_an_aa_test_tells_of_the_platform() -> None:
    passed = decide(at_plan(effect(0.4), state=State.AA))
    assert (passed.call, passed.headline) == ("hold", "A/A passed: the platform splits evenly.")
    early = decide(evidence(effect(0.6), units=5000, state=State.AA))
    assert (early.call, early.headline) == ("wait", "A/A: the platform splits evenly so far.")
    failed = decide(evidence(effect(-1.0), units=5000, state=State.AA))
    assert (failed.call, failed.variant) == ("blocked", None)
    assert failed.headline == "A/A failed: a difference is found where there is none."
    assert decide(evidence(state=State.AA, ratio=BROKEN)).call == "blocked"


def test_a_holdout_tells_of_everything_together() -> None:
    calls = [decide(evidence(effect(gain), state="holdout")).call for gain in (1.0, 0.5, -1.0)]
    assert calls == ["hold", "wait", "stop"]


def test_reasons_tell_the_numbers() -> None:
    ship = decide(at_plan(effect(0.6)))
    assert ship.headline == "Ship new: it raises revenue per unit by 6.00 %."
    assert ship.reasons == (
        "At the planned 10,000 units, reached on 2026-01-14, there was a gain: revenue per unit of "
        "new against old +0.60 USD (+6.00 %), 95 % interval +0.10 to +1.10, always valid -0.30 to "
        "+1.50, p = 0.0100.",
    )
    hold = decide(at_plan(effect(0.4)))
    assert hold.reasons[-1] == (
        "Smallest effect of new that these units show with 80 % power: 0.7500 USD (7.50 % of the "
        "control's value). A smaller one may still be there."
    )
    wait = decide(evidence(effect(0.6), units=4000, days=4))
    assert wait.reasons[:2] == (
        "4,000 of 10,000 planned units have come; at this pace about 6 days more.",
        "4 of 7 days have passed: weekdays differ, so a full week is needed.",
    )
    assert "`cascade plan`" in decide(evidence(effect(0.6), planned_units=None)).reasons[0]
    ahead = decide(evidence(effect(1.0), units=5000, days=3))
    assert ahead.headline == "Wait for a full week: new is ahead."
    stop = decide(at_plan(effect(0.1), guards=(guard(0.06, 0.2, broken=True),)))
    assert stop.reasons[0] == (
        "Guardrail time of an answer, 99th percentile is broken by new: always-valid interval of "
        "the harm +6.00 to +20.00 % of the control's value, accepted 5.00 %."
    )
    unknown = guard(0, 0, broken=True).model_copy(update={"harm": None})
    assert (
        "not known as a share, difference -0.8 to +1.0"
        in decide(at_plan(effect(0.1), guards=(unknown,))).reasons[0]
    )
