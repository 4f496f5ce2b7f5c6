"""Table analysis: the variants of any table with one row a unit, compared like an experiment's."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from abtest.analysis.metric import Frozen, Kind, Measure, Metric
from abtest.analysis.sample import Sample
from abtest.analysis.statistics.comparison import compare
from abtest.analysis.statistics.difference import value
from abtest.analysis.statistics.effect import AnalysisError, Effect, SampleRatio
from abtest.analysis.statistics.multiplicity import adjust
from abtest.analysis.statistics.sample_ratio import sample_ratio
from abtest.analysis.table import MetricType, Question, read_table


class Arm(Frozen):
    """One variant of the table."""

    variant: str
    units: int
    value: float | None
    """Mean or ratio, as it is, neither capped nor adjusted; None for a denominator of 0."""


class TableAnalysis(Frozen):
    """What a table says about its variants."""

    metric: str
    metric_type: MetricType
    control: str
    arms: tuple[Arm, ...]
    """The control first, the others by name."""
    sample_ratio: SampleRatio
    split_given: bool
    """False: the sample ratio is told against equal shares and blocks nothing."""
    effects: tuple[Effect, ...]
    """None where the sample ratio fails against shares that were given; adjusted with Holm's method
    if there are several."""
    untested: tuple[str, ...]
    """Variants that could not be compared: too few units, or values that do not vary."""


def analyze_table(
    path: Path, question: Question, expected_split: str | None = None
) -> TableAnalysis:
    """Compare the variants of a table that has one row a unit.

    Args:
        path: a `.parquet` or `.csv` file.
        question: its columns, and how they are compared.
        expected_split: shares of the traffic, `0.5,0.5` with the control first and the others by
            name, or `A=0.5,B=0.5`; without, equal ones are assumed.

    Raises:
        AnalysisError: as `read_table`; or the question contradicts itself, the control is unknown,
            or the split is not one of the table's variants.
    """
    metric = _metric(question)
    samples = read_table(path, question)
    if question.control not in samples:
        raise AnalysisError(
            f"control == {question.control!r} must be one of the variants {sorted(samples)} in "
            f"column {question.variant!r}"
        )
    names = [question.control, *sorted(set(samples) - {question.control})]
    ordered = {name: samples[name] for name in names}
    given = None if expected_split is None else parse_shares(expected_split, names)
    counts = {name: len(sample.numerator) for name, sample in ordered.items()}
    ratio = sample_ratio(counts, given or dict.fromkeys(names, 1.0))
    readable = ratio.ok or given is None
    effects = _effects(metric, question, ordered) if readable else ()
    told = {effect.variant for effect in effects}
    return TableAnalysis(
        metric=question.metric,
        metric_type=question.metric_type,
        control=question.control,
        arms=tuple(_arm(name, sample) for name, sample in ordered.items()),
        sample_ratio=ratio,
        split_given=given is not None,
        effects=effects,
        untested=tuple(name for name in names[1:] if readable and name not in told),
    )


def _effects(
    metric: Metric, question: Question, samples: Mapping[str, Sample]
) -> tuple[Effect, ...]:
    """Of every variant but the control, where there is one."""
    control = samples[question.control]
    found = (
        compare(metric, name, sample, control, planned_units=question.planned_units)
        for name, sample in samples.items()
        if name != question.control
    )
    effects = [one.model_copy(update={"metric": question.metric}) for one in found if one]
    return adjust(effects, "holm") if len(effects) > 1 else tuple(effects)


def _metric(question: Question) -> Metric:
    ratio = question.metric_type == "ratio"
    for name, column in (
        ("denominator", question.denominator),
        ("covariate_denominator", question.covariate_denominator),
    ):
        if column is not None and not ratio:
            raise AnalysisError(f"{name} == {column!r} is for ratios; set the metric type to ratio")
    if ratio and question.denominator is None:
        raise AnalysisError("a ratio needs a denominator; name its column")
    if ratio and (question.covariate is None) != (question.covariate_denominator is None):
        raise AnalysisError(
            "a ratio's covariate needs covariate and covariate_denominator; name both columns"
        )
    if question.cap_quantile is not None and (ratio or not 0.5 < question.cap_quantile < 1):
        raise AnalysisError(
            f"cap_quantile == {question.cap_quantile} must be in (0.5, 1), and of a mean"
        )
    return Metric(
        name="column",
        title=question.metric[:80],
        kind=Kind.RATIO if ratio else Kind.MEAN,
        numerator=Measure(event="conversion"),
        denominator=Measure(event="ranking") if ratio else None,
        cap_quantile=question.cap_quantile,
        covariate_days=0 if question.covariate is None else 1,
    )


def _arm(name: str, sample: Sample) -> Arm:
    found = value(sample)
    return Arm(variant=name, units=len(sample.numerator), value=None if np.isnan(found) else found)


def parse_shares(text: str, names: Sequence[str]) -> dict[str, float]:
    """Shares of the traffic, from `0.5,0.5` in the order of `names`, or from `A=0.5,B=0.5`.

    Raises:
        AnalysisError: it is neither, or does not sum to 1.
    """
    parts = [part.strip() for part in text.split(",")]
    if not any("=" in part for part in parts) and len(parts) == len(names):
        parts = [f"{name}={part}" for name, part in zip(names, parts, strict=True)]
    try:
        pairs = [part.rsplit("=", 1) for part in parts]
        shares = {name.strip(): float(share) for name, share in pairs}
    except ValueError as error:
        raise AnalysisError(
            f"expected split {text!r} must be a share for each of {list(names)}, such as "
            f"{','.join(f'{name}={1 / len(names):.2g}' for name in names)}"
        ) from error
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise AnalysisError(
            f"expected split {text!r} sums to {sum(shares.values()):g}; it must be 1"
        )
    return shares
