from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from abtest.analysis.metric import Metric
from abtest.analysis.sample import Sample
from abtest.analysis.statistics.effect import Exposure
from abtest.analysis.statistics.sample_ratio import sample_ratio
from abtest.report.analysis import ReportError, analyze
from abtest.report.decision import decide
from abtest.report.effects import primary_effects
from abtest.report.evidence import Evidence
from abtest.report.model import Report, Summary, summarize
from abtest.report.timeline import planned_day
from abtest.report.trial import Trial
from abtest.report.wording import REPLAY_NOTE
from abtest.split.experiment import ExperimentError, Guardrail, State
from tests.abtest.report.made import FIRST_DAY, METRICS, MadeReadings, after, crowd, readings

RAILS = (Guardrail(metric="latency_p99", tolerance=0.05),)


def trial(found: MadeReadings, **given: Any) -> Trial:  # noqa: ANN401
    names = found.subject.variants
    base = Trial(
        subject=found.subject,
        state=State.RUNNING,
        hypothesis="",
        layer="model",
        unit="user_id",
        control="old",
        weights={name: 1 / len(names) for name in names},
        primary_metric="revenue_per_unit",
    )
    return base._replace(**given)


def two_arms(uplift: float, *, seed: int = 1, units: int = 3000, days: int = 14) -> MadeReadings:
    rng = np.random.default_rng(seed)
    arms = {"old": crowd(units, days, rng), "new": crowd(units, days, rng, uplift=uplift)}
    return readings(arms)


def test_a_planted_lift_is_found_and_shipped() -> None:
    found = two_arms(1.3)
    report = analyze(found, trial(found, planned_units=6000), METRICS, as_of=after(14))
    assert (report.decision.call, report.decision.variant) == ("ship", "new")
    assert report.primary[0].interval.low > 0
    assert report.planned_day == FIRST_DAY + timedelta(days=13)
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert summarize(report) == Summary(
        key="new-vs-old",
        revision=1,
        state=State.RUNNING,
        units=6000,
        call="ship",
        variant="new",
        headline=report.decision.headline,
        as_of=after(14),
        first_day=report.exposure.first_day,
    )


def test_no_lift_is_found_where_there_is_none() -> None:
    found = two_arms(1.0)
    report = analyze(found, trial(found, planned_units=6000), METRICS, as_of=after(14))
    assert report.decision.call == "hold"


def test_a_broken_split_blocks_every_effect() -> None:
    found = two_arms(1.3)
    declared = trial(
        found,
        weights={"old": 0.55, "new": 0.45},
        planned_units=6000,
        guardrails=RAILS,
        secondary_metrics=("requests_per_unit",),
        segments=("country",),
    )
    report = analyze(found, declared, METRICS, as_of=after(14))
    assert not report.sample_ratio.ok
    assert report.decision.call == "blocked"
    blocked = (report.primary, report.planned, report.guards, report.secondary, report.segments)
    assert blocked == ((), (), (), (), ())
    assert (report.days, report.novelty, report.off_policy) == ((), (), ())
    assert (report.planned_day, report.interleaving) == (None, None)
    assert report.exposure.degraded_p_value is None


def test_the_fixed_horizon_is_read_once_at_the_plan() -> None:
    """Whatever comes later, what was read at the plan stays; before the day is over it is not."""
    found = two_arms(1.3, units=3000, days=20)
    declared = trial(found, planned_units=3500)
    report = analyze(found, declared, METRICS, as_of=after(20))
    assert report.planned_day is not None
    assert report.planned_day < report.days[-1].day
    then = next(day for day in report.days if day.day == report.planned_day)
    assert (report.planned[0].absolute, report.planned[0].interval) == (
        then.absolute,
        then.interval,
    )
    assert then.units >= 3500 > max(d.units for d in report.days if d.day < then.day)
    all_units = trial(found, planned_units=6000)
    assert analyze(found, all_units, METRICS, as_of=after(19)).planned_day is None
    assert analyze(found, all_units, METRICS, as_of=after(20)).planned_day == report.days[-1].day


def test_a_plan_reached_within_days_still_takes_a_week() -> None:
    found = two_arms(1.3, days=10)
    report = analyze(found, trial(found, planned_units=100), METRICS, as_of=after(10))
    assert report.planned_day == FIRST_DAY + timedelta(days=6)


def test_looking_every_day_ships_nothing_for_nothing() -> None:
    """A/A, looked at again and again: it ships, and stops, in at most 5 % of the runs each."""
    runs, looks = 80, range(7, 22, 3)
    ships = stops = naive = 0
    for seed in range(runs):
        found = two_arms(1.0, seed=seed, units=400, days=21)
        declared = trial(found, planned_units=600)
        calls, peeked = set(), False
        for day in looks:
            evidence = looked_at(found.until(day), declared, day)
            calls.add(decide(evidence).call)
            peeked |= evidence.primary[0].p_value < 0.05
        ships += "ship" in calls
        stops += "stop" in calls
        naive += peeked
    allowed = 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5
    assert ships / runs <= allowed
    assert stops / runs <= allowed
    assert naive / runs > allowed  # so that the test could fail


def looked_at(found: MadeReadings, declared: Trial, day: int) -> Evidence:
    """What the report of a day decides from."""
    metric = METRICS[declared.primary_metric]
    reached = planned_day(found, declared.planned_units, after(day))
    counts = {name: each.units for name, each in found.counts.items()}
    return Evidence(
        state=State.RUNNING,
        control="old",
        units=sum(counts.values()),
        planned_units=declared.planned_units,
        ratio=sample_ratio(counts, declared.weights),
        exposure=Exposure(
            first_day=found.days[0],
            last_day=found.days[-1],
            crossed_units=0,
            forced_units=0,
            unexposed_feedback=0,
            degraded_p_value=None,
        ),
        metrics={metric.name: metric},
        primary_metric=metric.name,
        currency="USD",
        primary=primary_effects(found, declared, metric),
        planned_day=reached,
        planned=primary_effects(found, declared, metric, until=reached) if reached else (),
        guards=(),
    )


def test_three_arms_ship_the_best() -> None:
    rng = np.random.default_rng(4)
    ups = {"old": 1.0, "new": 1.0, "newer": 1.5}
    found = readings({name: crowd(3000, 14, rng, uplift=up) for name, up in ups.items()})
    report = analyze(found, trial(found, planned_units=9000), METRICS, as_of=after(14))
    assert (report.decision.call, report.decision.variant) == ("ship", "newer")
    assert all(effect.p_adjusted is not None for effect in report.primary)
    assert {day.variant for day in report.days} == {"new", "newer"}


def test_a_slower_variant_breaks_its_guardrail() -> None:
    rng = np.random.default_rng(5)
    crowds = {
        "old": crowd(3000, 14, rng),
        "new": crowd(3000, 14, rng, uplift=1.5, latency_ms=14.0),
    }
    found = readings(crowds)
    report = analyze(found, trial(found, guardrails=RAILS), METRICS, as_of=after(14))
    assert [rail.broken for rail in report.guards] == [True]
    assert report.decision.call == "stop"


def test_families_are_adjusted() -> None:
    found = two_arms(1.3)
    declared = trial(
        found,
        secondary_metrics=("requests_per_unit", "revenue_per_1000_items"),
        segments=("country",),
    )
    report = analyze(found, declared, METRICS, as_of=after(14))
    assert len(report.primary) == 1
    assert report.primary[0].p_adjusted is None
    plain = sorted(effect.p_value for effect in report.secondary)
    adjusted = sorted(effect.p_adjusted or 0 for effect in report.secondary)
    assert adjusted == pytest.approx([2 * plain[0], max(2 * plain[0], plain[1])])
    assert {found.value for found in report.segments} == {"DE", "AT", "CH", "FR"}
    p_values = [each.effect.p_value for each in report.segments]
    smallest = min(p_values)
    first = report.segments[p_values.index(smallest)].effect
    assert smallest < (first.p_adjusted or 0) <= 4 * smallest + 1e-12
    assert set(report.metrics) == {
        "revenue_per_unit",
        "requests_per_unit",
        "revenue_per_1000_items",
    }


def test_the_best_variant_by_segment_is_worth_what_it_is_worth() -> None:
    """Half the countries like the new variant and half the old: choosing by country gains."""
    rng = np.random.default_rng(6)
    old, new = (crowd(6000, 14, rng) for _ in range(2))
    likes = np.isin(new.segment, ["DE", "FR"])
    new.revenue[likes] *= 3
    new.revenue[~likes] *= 0.2
    found = readings({"old": old, "new": new})
    declared = trial(found, segments=("country",))
    (policy,) = analyze(found, declared, METRICS, as_of=after(14)).off_policy
    truth = np.mean(np.where(np.isin(old.segment, ["DE", "FR"]), 3, 1) * old.revenue.sum(axis=1))
    assert policy.policy == "the best variant for each country"
    assert policy.value.interval is not None
    assert policy.value.interval.low < truth < policy.value.interval.high
    arms = [arm.revenue_per_unit for arm in analyze(found, declared, METRICS, as_of=after(14)).arms]
    assert policy.value.snips is not None
    assert policy.value.snips > max(arms)


def test_a_policy_is_not_better_by_luck() -> None:
    """No segment differs: the best of each, judged on other units, earns what all earn."""
    gains = []
    for seed in range(16):
        found = two_arms(1.0, seed=seed, units=1000, days=7)
        declared = trial(found, segments=("country",))
        report = analyze(found, declared, METRICS, as_of=after(7))
        value = report.off_policy[0].value.snips
        assert value is not None
        gains.append(value / np.mean([arm.revenue_per_unit for arm in report.arms]) - 1)
    assert abs(np.mean(gains)) < 2.5 * np.std(gains, ddof=1) / len(gains) ** 0.5


def test_an_arm_without_units_is_all_zeros() -> None:
    rng = np.random.default_rng(1)
    empty = crowd(0, 3, rng)
    found = readings({"old": crowd(5, 3, rng), "new": empty})
    report = analyze(found, trial(found), METRICS, as_of=after(3))
    assert report.decision.headline == "No comparison is possible yet."
    new = report.arms[1]
    assert (new.units, new.requests, new.revenue_per_unit, new.click_rate) == (0, 0, 0, 0)
    assert (new.latency, new.revenue_per_unit_interval, new.days) == (None, None, ())


def test_notes_tell_what_was_left_out_and_how_to_read() -> None:
    found = replace(two_arms(1.0, days=7), crossed_units=3, forced_units=2, clustered=True)
    declared = trial(found, state=State.SHIPPED, winner="new", unit="period")
    report = analyze(found, declared._replace(replay=True), METRICS, as_of=after(7))
    assert [note.split(":")[0] for note in report.notes[:-1]] == [
        "Shipped",
        "A switchback",
        "Units seen in more than one variant, left out",
        "Units put into a variant by configuration, left out",
    ]
    assert report.notes[-1] == REPLAY_NOTE
    killed = analyze(found, trial(found, state=State.KILLED), METRICS, as_of=after(7))
    assert killed.notes[0] == "The experiment is killed: nobody is split any more."


class DegradedReadings(MadeReadings):
    """A tenth of the units of `new` have a degraded answer."""

    def sample(
        self,
        metric: Metric,
        variant: str,
        *,
        segment: tuple[str, str] | None = None,
        until: date | None = None,
        since: date | None = None,
    ) -> Sample:
        taken = super().sample(metric, variant, segment=segment, until=until, since=since)
        if metric.name != "degraded_share" or variant != "new":
            return taken
        bad = np.random.default_rng(1).random(len(taken.numerator)) < 0.1
        return taken._replace(numerator=bad.astype(np.float64))


def test_degraded_answers_that_differ_are_told() -> None:
    found = two_arms(1.0, days=7)

    worse = DegradedReadings(**vars(found))
    notes = analyze(worse, trial(found), METRICS, as_of=after(7)).notes
    assert notes[0].startswith("Degraded answers are not as frequent in all variants (p = ")
    assert not analyze(found, trial(found), METRICS, as_of=after(7)).notes


def test_faults_are_named() -> None:
    found = replace(two_arms(1.0, days=7, units=0), crossed_units=4, forced_units=1)
    with pytest.raises(
        ReportError,
        match=r"every unit of new-vs-old revision 1 was seen in several variants \(4\) or forced "
        r"\(1\); change weights or variants only with a new revision",
    ):
        analyze(found, trial(found), METRICS, as_of=after(7))
    with pytest.raises(
        ExperimentError, match=r"experiment new-vs-old: metric 'profit' is not declared; known are"
    ):
        analyze(found, trial(found, primary_metric="profit"), METRICS, as_of=after(7))
