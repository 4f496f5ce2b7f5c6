"""Order and report: what the processes of a load test tell each other."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from loadtest.step import Step
from loadtest.tally import PhaseTally


class Order(NamedTuple):
    """A step to be carried out by several processes, each its share."""

    number: int
    step: Step
    worker: int
    workers: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """As a message between processes holds it."""
        return {**self._asdict(), "step": asdict(self.step)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Order":
        """The order that `to_dict` wrote."""
        return cls(**{**found, "step": Step.from_dict(found["step"])})


class Report(NamedTuple):
    """What one process did of a step."""

    number: int
    phases: tuple[PhaseTally, ...]
    cpu_share: float
    """Processor time over wall time; 1 is a whole core, more than which a process cannot use."""

    def to_dict(self) -> dict[str, Any]:
        """As a message between processes holds it."""
        return {**self._asdict(), "phases": [phase.to_dict() for phase in self.phases]}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Report":
        """The report that `to_dict` wrote."""
        phases = tuple(PhaseTally.from_dict(phase) for phase in found["phases"])
        return cls(found["number"], phases, found["cpu_share"])
