"""Finding: what a report has to say beside its decision and its tables, a sentence each."""

from collections.abc import Iterator

from abtest.analysis.statistics.sample_ratio import SAMPLE_RATIO_P
from abtest.report.model import Interleaving, OffPolicy, Report
from abtest.report.wording import count, p_text, percent, value_text


def ratio_sentence(report: Report) -> str:
    """The sample ratio check in one line."""
    ratio = report.sample_ratio
    seen = ", ".join(
        f"{arm.name} {arm.units:,} of {ratio.expected.get(arm.name, 0.0):,.0f} expected"
        for arm in report.arms
    )
    outcome = "passed" if ratio.ok else "FAILED"
    return (
        f"Sample ratio check {outcome}: {seen}; p = {p_text(ratio.p_value)}, fails below "
        f"{SAMPLE_RATIO_P:g}."
    )


def findings(report: Report) -> Iterator[str]:
    """What else was found, in a sentence each."""
    for novelty in report.novelty:
        if novelty.fades or novelty.grows:
            word = "fades" if novelty.fades else "grows"
            yield (
                f"The effect of {novelty.variant} {word} with the days of exposure "
                f"(p = {p_text(novelty.p_value)}): its first days say little about its last."
            )
    if report.interleaving is not None:
        yield _interleaved(report.interleaving)
    for policy in report.off_policy:
        yield _policy(policy, report)
    title = report.metrics[report.primary_metric].title
    warnings = (words for effect in report.primary for words in effect.warnings)
    for words in dict.fromkeys(warnings):  # those of the control come with every variant
        yield f"{title}: {words}."


def _interleaved(found: Interleaving) -> str:
    preference = found.preference
    credits = (
        f"Interleaved answers, {count(preference.units, 'unit')}: {found.a} is credited with "
        f"{count(found.clicks_a, 'clicked item')} and {found.purchases_a:,} bought, {found.b} with "
        f"{count(found.clicks_b, 'clicked item')} and {found.purchases_b:,} bought"
    )
    if preference.share_a is None:
        return f"{credits}."
    return (
        f"{credits}. Of the units that took more from one, {percent(preference.share_a)} took it "
        f"from {found.a} (p = {p_text(preference.p_value)})."
    )


def _policy(found: OffPolicy, report: Report) -> str:
    value = found.value
    if value.snips is None:
        return (
            f"Off-policy, {found.policy}: too little of the traffic agrees with it to tell "
            f"(effective units {value.effective_units:,.0f})."
        )
    metric = report.metrics[report.primary_metric]
    span = (
        ""
        if value.interval is None
        else (
            f", 95 % interval {value_text(value.interval.low, metric, None)} to "
            f"{value_text(value.interval.high, metric, None)}"
        )
    )
    return (
        f"Off-policy, {found.policy}: {value_text(value.snips, metric, report.currency)} a unit"
        f"{span}, from {value.effective_units:,.0f} effective units."
    )


def period(report: Report) -> str:
    """First and last day of the exposure, UTC."""
    first, last = report.exposure.first_day, report.exposure.last_day
    return f"{first} to {last}" if first != last else f"{first}"
