"""Profile: where the time of training goes."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from torch import nn

LOADER = "loader"
FORWARD = "forward"
LOSS = "loss"
BACKWARD = "backward"
EXCHANGE = "exchange"
DENSE_OPTIMIZER = "dense optimizer"
EMBEDDING_OPTIMIZER = "embedding optimizer"
METRICS = "metrics"
CHECKPOINT = "checkpoint"


class PhaseTime(NamedTuple):
    """What a phase took."""

    name: str
    seconds: float
    """Without the phases inside it."""
    entered: int


class Profile:
    """Time by phase, in the order in which phases are first entered.

    A phase may hold others; each second belongs to the innermost, so that shares sum to one.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        """Start with nothing.

        Args:
            clock: in seconds.
            settle: waits until everything that was begun is done, such as
                `torch.cuda.synchronize`; called at both ends of a phase.
        """
        self._clock, self._settle = clock, settle
        self._seconds: dict[str, float] = {}
        self._entered: dict[str, int] = {}
        self._inside: list[str] = []
        self._since = 0.0
        self.steps = 0
        self.requests = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's time to `name`."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def enter(self, name: str) -> None:
        """Begin a phase, within the one that is on."""
        self._settle()
        self._charge()
        self._seconds.setdefault(name, 0.0)
        self._entered[name] = self._entered.get(name, 0) + 1
        self._inside.append(name)

    def leave(self) -> None:
        """End the phase that was begun last."""
        self._settle()
        self._charge()
        self._inside.pop()

    def watch(self, name: str, module: nn.Module) -> None:
        """Count every call of a module to `name`."""
        module.register_forward_pre_hook(lambda *_: self.enter(name))
        module.register_forward_hook(lambda *_: self.leave())

    def _charge(self) -> None:
        now = self._clock()
        if self._inside:
            self._seconds[self._inside[-1]] += now - self._since
        self._since = now

    def step(self, requests: int) -> None:
        """Note a step that saw so many requests."""
        self.steps += 1
        self.requests += requests

    def phases(self) -> tuple[PhaseTime, ...]:
        """What each phase took until now."""
        return tuple(PhaseTime(n, s, self._entered[n]) for n, s in self._seconds.items())

    def render(self) -> str:
        """A table with ms a step and share of each phase, and requests/s."""
        table = Table(box=None, pad_edge=False)
        table.add_column("phase")
        for column in ("ms/step", "share"):
            table.add_column(column, justify="right")
        total, steps = sum(self._seconds.values()), max(1, self.steps)
        for phase in self.phases():
            share = phase.seconds / total if total else 0.0
            table.add_row(phase.name, f"{1000 * phase.seconds / steps:.2f}", f"{share:.1%}")
        table.add_row("all", f"{1000 * total / steps:.2f}", "")
        console = Console(width=72, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(table)
        speed = self.requests / total if total else 0.0
        rows = "\n".join(line.rstrip() for line in capture.get().splitlines())
        return (
            f"{rows}\n{self.steps:,} steps, {self.requests:,} requests, {speed:,.0f} requests/s\n"
        )


def timed(profile: Profile | None, name: str) -> AbstractContextManager[None]:
    """Count the block's time to `name`, if anybody profiles."""
    return nullcontext() if profile is None else profile.phase(name)
