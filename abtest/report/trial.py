"""Trial: what a report is about, as the configuration declares it; an experiment or a holdout."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from abtest.analysis.metric import Metric
from abtest.analysis.readings.subject import HELD, OPEN, Subject, of_experiment, of_holdout
from abtest.split.config import USER_ID, ExperimentConfig, Layer
from abtest.split.experiment import Experiment, ExperimentError, Guardrail, State

HOLDOUT: Final = "holdout"
"""State and layer of a holdout."""
PERIOD = "period"
"""The unit of a switchback."""
REVENUE = "revenue_per_unit"
REPLAY = "replay"


class Trial(NamedTuple):
    """A comparison that was declared."""

    subject: Subject
    state: State | Literal["holdout"]
    hypothesis: str
    layer: str
    unit: str
    """What is split: `user_id`, a field of the context, or `period`."""
    control: str
    weights: Mapping[str, float]
    """Share of each variant, in the order of the configuration."""
    primary_metric: str
    secondary_metrics: tuple[str, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    segments: tuple[str, ...] = ()
    planned_units: int | None = None
    winner: str | None = None
    """Of a shipped experiment."""
    replay: bool = False
    """The traffic replays logged purchases."""
    teams: tuple[str, str] | None = None
    """Served names of two bundles whose lists a variant merges, the control's first."""

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants without the control."""
        return tuple(name for name in self.subject.variants if name != self.control)

    @property
    def used_metrics(self) -> tuple[str, ...]:
        """Names of all metrics it is judged by, each once."""
        names = (
            self.primary_metric,
            *(guardrail.metric for guardrail in self.guardrails),
            *self.secondary_metrics,
        )
        return tuple(dict.fromkeys(names))


def trials(config: ExperimentConfig) -> tuple[Trial, ...]:
    """Every experiment but drafts, then every holdout."""
    found = [
        _of_experiment(experiment, layer, config)
        for domain in config.domains
        for layer in domain.layers
        for experiment in layer.experiments
        if experiment.state is not State.DRAFT
    ]
    for holdout in config.holdouts:
        weights = {HELD: holdout.share, OPEN: 1 - holdout.share}
        found.append(
            Trial(
                subject=of_holdout(holdout),
                state=HOLDOUT,
                hypothesis="",
                layer=HOLDOUT,
                unit=USER_ID,
                control=HELD,
                weights=weights,
                primary_metric=REVENUE,
                replay=config.traffic == REPLAY,
            )
        )
    return tuple(found)


def trial(config: ExperimentConfig, key: str) -> Trial:
    """The experiment or holdout named `key`.

    Raises:
        ExperimentError: there is none, or it is a draft.
    """
    known = {found.subject.key: found for found in trials(config)}
    if key not in known:
        drafts = {each.key for each in config.experiments() if each.state is State.DRAFT}
        if key in drafts:
            raise ExperimentError(f"experiment {key!r} is a draft; start it to have a report")
        raise ExperimentError(f"no experiment {key!r}; known are {sorted({*known, *drafts})}")
    return known[key]


def check_metrics(found: Trial, metrics: Mapping[str, Metric]) -> None:
    """Check that every metric of a trial is declared.

    Raises:
        ExperimentError: one is not.
    """
    for name in found.used_metrics:
        if name not in metrics:
            raise ExperimentError(
                f"experiment {found.subject.key}: metric {name!r} is not declared; known are "
                f"{sorted(metrics)}, others go into metrics.toml of the data directory"
            )


def _of_experiment(experiment: Experiment, layer: Layer, config: ExperimentConfig) -> Trial:
    return Trial(
        subject=of_experiment(experiment),
        state=experiment.state,
        hypothesis=experiment.hypothesis,
        layer=layer.name,
        unit=layer.unit if experiment.switchback is None else PERIOD,
        control=experiment.control,
        weights={variant.name: variant.weight for variant in experiment.variants},
        primary_metric=experiment.primary_metric,
        secondary_metrics=experiment.secondary_metrics,
        guardrails=experiment.guardrails,
        segments=experiment.segments,
        planned_units=experiment.planned_units,
        winner=experiment.winner,
        replay=config.traffic == REPLAY,
        teams=_teams(experiment, config),
    )


def _teams(experiment: Experiment, config: ExperimentConfig) -> tuple[str, str] | None:
    """The two bundles of the first variant that interleaves."""
    for variant in experiment.variants:
        params = {**config.defaults, **variant.params}
        other = str(params.get("interleave_with", ""))
        if other:
            return str(params.get("bundle", "")), other
    return None
