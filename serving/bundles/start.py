"""Start: what a server begins with, from disk, before it has a store."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from abtest.split.config import ExperimentConfig
from abtest.split.experiment import ExperimentError
from serving.bundles.choice import Choice
from serving.bundles.choice import remembered as remembered_choices
from serving.bundles.lineup import check_sources, names_served
from serving.bundles.loading import Loader, choose_device
from serving.cascade.funnel import Funnel
from serving.cascade.policy import check_policies
from serving.cascade.rerank.rulebook import Rulebook
from serving.experiments.file import read_file
from serving.experiments.version import FILE, Standing, Version, remembered
from serving.settings import Settings
from serving.telemetry.metrics import Metrics
from training.bundle import BundleError

logger = logging.getLogger(__name__)


@dataclass
class OnDisk:
    """What a server begins with, before it has a store."""

    experiments_path: Path
    standing: Standing
    memory: Path
    rulebook: Rulebook
    loader: Loader
    choices: Mapping[str, Choice]
    funnels: dict[str, Funnel]

    def hand_over(self) -> dict[str, Funnel]:
        """The bundles, which are not held here any more: they shall be freed when swapped."""
        funnels, self.funnels = self.funnels, {}
        return funnels


def load_from_disk(settings: Settings, metrics: Metrics) -> OnDisk:
    """Load the experiments and the bundles they name.

    Raises:
        ExperimentError: the experiments are missing or wrong, or name a bundle that is not there.
        BundleError: a bundle the experiments name is damaged.
        RulesError: the business rules are wrong.
        ValueError: the device is not there.
    """
    rulebook = Rulebook(settings.rules_path, metrics)
    loader = Loader(settings.bundles_dir, choose_device(settings.device), rulebook)
    memory = settings.choices_path
    choices = remembered_choices(memory)
    path = settings.experiments_path
    standing, funnels = _begin(path, partial(load_named, loader, choices=choices, memory=memory))
    return OnDisk(path, standing, memory, rulebook, loader, choices, funnels)


def _begin(
    path: Path, load: Callable[[ExperimentConfig], dict[str, Funnel]]
) -> tuple[Standing, dict[str, Funnel]]:
    """The experiments that were in force last, or those of the file, and their bundles.

    An edit of the file since then is taken up like any other, unless what was in force last cannot
    be served any more: then the file is begun with.
    """
    standing = remembered(experiments_memory(path))
    now = datetime.now(UTC)
    if standing is None:
        config, found = read_file(path)
        version = Version.first(config, found, now)
    else:
        try:
            return standing, load(standing.version.config)
        except (ExperimentError, BundleError) as error:
            if not path.is_file() or read_file(path)[1] == standing.seen:
                raise
            logger.warning("the experiments begin with %s, because: %s", path, error)
        config, found = read_file(path)
        version = standing.version.next(config, at=now, by=FILE, file_sha=found)
    return Standing(version=version, seen=found, pending=True), load(config)


def experiments_memory(path: Path) -> Path:
    """The file beside a file of experiments that says which version is in force."""
    return path.with_suffix(".json")


def load_named(
    loader: Loader, config: ExperimentConfig, choices: Mapping[str, Choice], memory: Path
) -> dict[str, Funnel]:
    """Load the bundles that a configuration names, before the server answers.

    Args:
        loader: of the bundles' folder.
        config: names the bundles.
        choices: the folders that were activated, by name.
        memory: the file that these choices come from.

    Raises:
        BundleError: one is damaged, or its activated folder is gone.
        ExperimentError: the configuration names no bundle, or one that is not there.
    """
    names = names_served(config)
    check_policies(config)
    check_sources((name for name in names if name not in choices), loader)
    funnels = {}
    for name in names:
        source = choices[name].source if name in choices else name
        try:
            funnels[name] = loader.load(source)
        except BundleError as error:
            if source == name:
                raise
            raise BundleError(
                f"{error}; {source!r} was activated as {name!r}: to start with the folder "
                f"{name!r} instead, remove {memory}"
            ) from error
    return funnels
