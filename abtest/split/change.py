"""Change: from one configuration to the next, refusing what would move units or mix results."""

from collections.abc import Sequence

from abtest.split.config import ExperimentConfig, Layer, check_config
from abtest.split.difference import differences
from abtest.split.experiment import SLOTS, Experiment, ExperimentError, State
from abtest.split.part import Slots
from abtest.split.revision import place, slot_numbers

__all__ = [
    "aa",
    "differences",
    "kill",
    "pause",
    "ramp",
    "ship",
    "slots_held",
    "start",
]


def start(config: ExperimentConfig, key: str) -> ExperimentConfig:
    """Run a draft, a paused experiment, or one whose A/A phase ends (with a new revision).

    Raises:
        ExperimentError: it runs, it ended, or its slots are held.
    """
    experiment = config.experiment(key)
    _allow("start", experiment, State.DRAFT, State.AA, State.PAUSED)
    anew = experiment.state is State.AA
    return _replaced(
        config, experiment, state=State.RUNNING, revision=experiment.revision + int(anew)
    )


def aa(config: ExperimentConfig, key: str) -> ExperimentConfig:
    """Begin the A/A phase of a draft: units are split, and all get the control's parameters.

    Raises:
        ExperimentError: it is no draft, or its slots are held.
    """
    experiment = config.experiment(key)
    _allow("aa", experiment, State.DRAFT)
    return _replaced(config, experiment, state=State.AA)


def pause(config: ExperimentConfig, key: str) -> ExperimentConfig:
    """Give everybody the defaults, until `start`; an A/A phase ends by it.

    Raises:
        ExperimentError: nobody is split.
    """
    experiment = config.experiment(key)
    _allow("pause", experiment, State.AA, State.RUNNING)
    anew = experiment.state is State.AA
    return _replaced(
        config, experiment, state=State.PAUSED, revision=experiment.revision + int(anew)
    )


def kill(config: ExperimentConfig, key: str) -> ExperimentConfig:
    """End an experiment and give everybody the defaults; also of a shipped one, which harms.

    Raises:
        ExperimentError: it is a draft, or killed.
    """
    experiment = config.experiment(key)
    _allow("kill", experiment, State.AA, State.RUNNING, State.PAUSED, State.SHIPPED)
    return _replaced(config, experiment, state=State.KILLED, winner=None)


def ship(config: ExperimentConfig, key: str, variant: str) -> ExperimentConfig:
    """End an experiment and give everybody in its layer a variant's parameters.

    Raises:
        ExperimentError: it does not run, has no such variant, or another shipped experiment sets
            one of its parameters.
    """
    experiment = config.experiment(key)
    experiment.variant(variant)
    _allow("ship", experiment, State.RUNNING, State.PAUSED)
    return _replaced(config, experiment, state=State.SHIPPED, winner=variant)


def ramp(config: ExperimentConfig, key: str, share: float) -> ExperimentConfig:
    """Give an experiment more traffic; nobody who is in it moves.

    Free slots of the layer are added, the lowest first. With hash `gb2` the `coverage` is raised.
    A draft holds nothing yet: its share is set, up or down.

    Args:
        config: what is in force.
        key: the experiment.
        share: of the layer's traffic, in (0, 1].

    Raises:
        ExperimentError: the share is out of range or not larger, the experiment ended, or too few
            slots are free.
    """
    experiment = config.experiment(key)
    if not 0 < share <= 1:
        raise ExperimentError(f"share == {share:g} must be in (0, 1]; a quarter is 0.25")
    _allow("ramp", experiment, State.DRAFT, State.AA, State.RUNNING, State.PAUSED)
    if config.hash == "gb2":
        coverage = 1.0 if experiment.coverage is None else experiment.coverage
        _check_growth(experiment, coverage, share)
        return _replaced(config, experiment, coverage=share)
    wanted = round(share * SLOTS)
    if wanted == 0:
        raise ExperimentError(
            f"share == {share:g} is less than a slot; give at least {1 / SLOTS:g}"
        )
    own = () if experiment.state is State.DRAFT else experiment.slots
    _check_growth(experiment, slots_held(experiment) / SLOTS, wanted / SLOTS)
    held = slot_numbers(own)
    slots = [*held, *_free(place(config, key)[1])[: wanted - len(held)]]
    if len(slots) < wanted:
        raise ExperimentError(
            f"experiment {key}: {wanted} slots wanted, {len(slots)} are its own or free in its "
            "layer; ramp less, or remove an experiment that ended"
        )
    return _replaced(config, experiment, slots=_ranges(slots))


def slots_held(experiment: Experiment) -> int:
    """Number of the experiment's slots, in [1, 10,000]."""
    return sum(end - first for first, end in experiment.slots)


def _allow(action: str, experiment: Experiment, *states: State) -> None:
    if experiment.state in states:
        return
    remedy = {
        State.DRAFT: "start it first, or remove the draft",
        State.AA: "start it first",
        State.RUNNING: "an experiment under way can be ramped, paused, killed or shipped",
        State.PAUSED: "start it again, kill it or ship it",
        State.KILLED: "it has ended; write a new experiment",
        State.SHIPPED: "it has ended; write a new experiment, or kill it to take it back",
    }[experiment.state]
    raise ExperimentError(
        f"experiment {experiment.key} is {experiment.state}; {action} is for "
        f"{', '.join(states)}: {remedy}"
    )


def _check_growth(experiment: Experiment, has: float, share: float) -> None:
    if experiment.state is State.DRAFT or share > has:
        return
    raise ExperimentError(
        f"experiment {experiment.key}: share {share:g} must be larger than {has:g}, which it has; "
        "less traffic would throw units out: pause or kill it, or write fewer slots with a higher "
        "revision"
    )


def _free(layer: Layer) -> list[int]:
    """Slots that nobody holds, in order; drafts hold none."""
    held = {
        slot
        for other in layer.experiments
        if other.state is not State.DRAFT
        for slot in slot_numbers(other.slots)
    }
    return [slot for slot in range(SLOTS) if slot not in held]


def _ranges(slots: Sequence[int]) -> tuple[Slots, ...]:
    found: list[Slots] = []
    for slot in sorted(slots):
        if found and found[-1][1] == slot:
            found[-1] = (found[-1][0], slot + 1)
        else:
            found.append((slot, slot + 1))
    return tuple(found)


def _replaced(
    config: ExperimentConfig, experiment: Experiment, **changes: object
) -> ExperimentConfig:
    """The configuration with an experiment changed, checked like one that was read."""
    raw = config.model_dump()
    for domain in raw["domains"]:
        for layer in domain["layers"]:
            for found in layer["experiments"]:
                if found["key"] == experiment.key:
                    found.update(changes)
    return check_config(raw, f"experiment {experiment.key}")
