"""Lineup: the experiments and the bundles that requests are answered by, as one."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from abtest.split.config import ExperimentConfig
from abtest.split.experiment import ExperimentError
from abtest.split.splitter import Splitter
from serving.bundles.loading import Loader
from serving.cascade.line import Line

BUNDLE_PARAMETER = "bundle"
"""The experiment parameter that names the bundle to answer with."""
SECOND_PARAMETER = "interleave_with"
"""The one that names a second bundle, or is empty."""


class Lineup(NamedTuple):
    """Never changed, only replaced: a request that took one sees the same until its end."""

    splitter: Splitter
    lines: Mapping[str, Line]
    """By served name; each name that the experiments can give is among them."""

    @property
    def history_length(self) -> int:
        """The longest history any of the bundles looks at, in interactions."""
        return max(line.funnel.manifest.features.history_length for line in self.lines.values())

    @property
    def request_ms(self) -> float:
        """What a request takes at present in the slowest of the bundles."""
        return max(line.funnel.pace.request_ms for line in self.lines.values())


def names_served(config: ExperimentConfig) -> tuple[str, ...]:
    """The names of bundles that a configuration can give, sorted.

    Raises:
        ExperimentError: it sets no bundle by default.
    """
    if not isinstance(config.defaults.get(BUNDLE_PARAMETER), str):
        raise ExperimentError(
            f"[defaults] must set {BUNDLE_PARAMETER!r} to the name of a bundle; "
            f"it sets {sorted(config.defaults)}"
        )
    variants = [v for experiment in config.experiments() for v in experiment.variants]
    values = (config.defaults, *(variant.params for variant in variants))
    named = {str(v.get(name, "")) for v in values for name in (BUNDLE_PARAMETER, SECOND_PARAMETER)}
    return tuple(sorted(named - {""}))


def check_sources(wanted: Iterable[str], loader: Loader) -> None:
    """Check that bundles are on disk, before any is loaded.

    Raises:
        ExperimentError: one is not.
    """
    there = loader.sources()
    for name in sorted(set(wanted) - set(there)):
        raise ExperimentError(
            f"the experiments name bundle {name!r}, which is not in {loader.folder}; "
            f"there are {there}"
        )
