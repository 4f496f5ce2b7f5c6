"""TOML: a configuration as a file that people read and edit."""

from typing import Any

import tomli_w

from abtest.split.config import WHOLE, ExperimentConfig
from abtest.split.experiment import SLOTS


def to_toml(config: ExperimentConfig) -> str:
    """Write a configuration; `parse_config` reads an equal one back.

    What is left at its default is not written.
    """
    raw: dict[str, Any] = config.model_dump(exclude_defaults=True)
    domains = config.domains
    if len(domains) == 1 and (domains[0].name, domains[0].slots) == (WHOLE, (0, SLOTS)):
        raw["layers"] = raw.pop("domains")[0].get("layers", [])
    return tomli_w.dumps(raw)
