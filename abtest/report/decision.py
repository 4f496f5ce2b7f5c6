"""Decision: what to do with an experiment.

What comes first wins: a comparison that is broken, then a sure win, then harm, then waiting. A win
may be read from the confidence sequence at any time, and from the fixed horizon once: at the end of
the day on which the planned units were reached. Each finds a win that is not there in at most 2.5 %
of two-armed experiments, so together at most 5 % ship for nothing, however often one looks.
"""

from typing import Final

from abtest.analysis.statistics.effect import Decision, Effect
from abtest.report.evidence import FULL_WEEK_DAYS, Evidence, sign, significant
from abtest.report.reasons import (
    at_plan,
    blocking,
    detectable,
    guard_text,
    missing,
    numbers,
    sentence,
    title_of,
)
from abtest.report.wording import p_text, percent
from abtest.split.experiment import State

SHIP: Final = "ship"
STOP: Final = "stop"
WAIT: Final = "wait"
HOLD: Final = "hold"
BLOCKED: Final = "blocked"


def decide(evidence: Evidence) -> Decision:
    """Say what to do, the reasons in the order of their weight."""
    blocked = tuple(blocking(evidence))
    if blocked:
        return _decision(BLOCKED, "Read no effect: the comparison is broken.", *blocked)
    if evidence.state == State.AA:
        return _same_for_all(evidence)
    if not evidence.primary:
        reason = (
            "A test needs at least two units in each variant, and a metric that differs between "
            "units."
        )
        return _decision(WAIT, "No comparison is possible yet.", reason)
    if evidence.state == "holdout":
        return _everything(evidence)
    harmed = _harmed(evidence)
    wins = _wins(evidence, set(harmed))
    if wins:
        return _ship(evidence, wins, harmed)
    if harmed:
        return _stop(evidence, harmed)
    return _open(evidence)


def _decision(call: str, headline: str, *reasons: str, variant: str | None = None) -> Decision:
    return Decision(call=call, variant=variant, headline=headline, reasons=reasons)


def _same_for_all(evidence: Evidence) -> Decision:
    """An A/A test: every variant was the control."""
    found = [effect for effect in evidence.primary if sign(effect.always_valid)]
    if found:
        headline = "A/A failed: a difference is found where there is none."
        told = (f"All variants were the same, and yet: {numbers(e, evidence)}." for e in found)
        return _decision(BLOCKED, headline, *told)
    ratio = f"Sample ratio check passed, p = {p_text(evidence.ratio.p_value)}."
    told = (f"No sure difference: {numbers(effect, evidence)}." for effect in evidence.primary)
    waiting = tuple(missing(evidence))
    if waiting or not evidence.primary:
        headline = "A/A: the platform splits evenly so far."
        return _decision(WAIT, headline, ratio, *told, *waiting)
    return _decision(HOLD, "A/A passed: the platform splits evenly.", ratio, *told)


def _everything(evidence: Evidence) -> Decision:
    """A holdout: what all experiments and all that was shipped did together."""
    effect = evidence.primary[0]
    reason = f"Users whom changes reach, against those held out: {numbers(effect, evidence)}."
    match evidence.gain(effect.always_valid):
        case 1:
            return _decision(HOLD, "All changes together are a gain.", reason)
        case -1:
            return _decision(STOP, "All changes together do harm.", reason)
        case _:
            return _decision(WAIT, "Not clear yet what all changes do together.", reason)


def _harmed(evidence: Evidence) -> dict[str, list[str]]:
    """Reasons by the variant that does harm for sure."""
    harmed: dict[str, list[str]] = {}
    for guard in evidence.guards:
        if guard.broken:
            harmed.setdefault(guard.effect.variant, []).append(guard_text(guard, evidence.metrics))
    for effect in evidence.primary:
        if evidence.gain(effect.always_valid) < 0:
            reason = f"The confidence sequence shows harm: {numbers(effect, evidence)}."
            harmed.setdefault(effect.variant, []).append(reason)
    for effect in evidence.planned:
        if evidence.gain(effect.interval) < 0 and significant(effect):
            reason = f"{at_plan(evidence)} there was harm: {numbers(effect, evidence)}."
            harmed.setdefault(effect.variant, []).append(reason)
    return harmed


def _wins(evidence: Evidence, harmed: set[str]) -> list[tuple[Effect, str]]:
    """Variants that are better for sure, the best first; none before a full week."""
    if evidence.days < FULL_WEEK_DAYS:
        return []
    found = {
        effect.variant: (
            effect,
            f"The confidence sequence shows a gain: {numbers(effect, evidence)}.",
        )
        for effect in _ahead(evidence)
    }
    for effect in evidence.planned:
        if evidence.gain(effect.interval) > 0 and significant(effect):
            reason = f"{at_plan(evidence)} there was a gain: {numbers(effect, evidence)}."
            found[effect.variant] = (effect, reason)
    better = 1 if evidence.metric.good == "up" else -1
    wins = [win for name, win in found.items() if name not in harmed]
    return sorted(wins, key=lambda win: -better * win[0].absolute)


def _ahead(evidence: Evidence) -> list[Effect]:
    """Effects whose confidence sequence shows a gain; one of several must pass Holm as well."""
    return [
        effect
        for effect in evidence.primary
        if evidence.gain(effect.always_valid) > 0 and significant(effect)
    ]


def _ship(
    evidence: Evidence, wins: list[tuple[Effect, str]], harmed: dict[str, list[str]]
) -> Decision:
    effect, reason = wins[0]
    others = tuple(f"Better as well, but by less: {win.variant}." for win, _ in wins[1:])
    guarded = tuple(
        guard_text(guard, evidence.metrics)
        for guard in evidence.guards
        if guard.effect.variant == effect.variant
    )
    harm = tuple(words for found in harmed.values() for words in found)
    by = "" if effect.relative is None else f" by {percent(abs(effect.relative))}"
    change = "raises" if effect.absolute > 0 else "lowers"
    headline = f"Ship {effect.variant}: it {change} {title_of(evidence.metric)}{by}."
    return _decision(SHIP, headline, reason, *others, *guarded, *harm, variant=effect.variant)


def _stop(evidence: Evidence, harmed: dict[str, list[str]]) -> Decision:
    names = " and ".join(harmed)
    reasons = [words for found in harmed.values() for words in found]
    left = [effect.variant for effect in evidence.primary if effect.variant not in harmed]
    if left:
        reasons.append(f"Start a new revision without {names} to go on with {' and '.join(left)}.")
    headline = f"Stop: {names} {'does' if len(harmed) == 1 else 'do'} harm."
    return _decision(STOP, headline, *reasons)


def _open(evidence: Evidence) -> Decision:
    """Neither harm nor a win: wait, or stay with the control."""
    waiting = tuple(missing(evidence))
    if waiting:
        ahead = " and ".join(effect.variant for effect in _ahead(evidence))
        headline = f"Wait for a full week: {ahead} is ahead." if ahead else "Wait: nothing is sure."
        told = (sentence(f"so far {numbers(effect, evidence)}") for effect in evidence.primary)
        return _decision(WAIT, headline, *waiting, *told)
    told = (
        f"{at_plan(evidence)} chance explained the difference: {numbers(effect, evidence)}."
        for effect in evidence.planned
    )
    smallest = (detectable(effect, evidence) for effect in evidence.planned)
    headline = f"Keep {evidence.control}: no variant is better for sure."
    return _decision(HOLD, headline, *told, *smallest)
