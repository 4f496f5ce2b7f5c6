"""Revision: which changes of an experiment need a new one, because units move or results mix."""

from collections.abc import Iterable, Mapping
from typing import Final

from abtest.split.config import Domain, ExperimentConfig, Layer
from abtest.split.experiment import Experiment, ExperimentError, State
from abtest.split.part import Slots

_ENDED: Final = (State.KILLED, State.SHIPPED)


def check_change(old: ExperimentConfig, new: ExperimentConfig) -> None:
    """Refuse a change after which results before and after could not be told apart.

    Raises:
        ExperimentError: the arms, weights, hashing or slots of an experiment that is no draft, or
            of a holdout, changed so that units move, without a higher revision.
    """
    after = {experiment.key: experiment for experiment in new.experiments()}
    for experiment in old.experiments():
        if experiment.key in after:
            _check_experiment(old, new, experiment, after[experiment.key])
    holdouts = {holdout.key: holdout for holdout in new.holdouts}
    for was in old.holdouts:
        now = holdouts.get(was.key)
        if now is not None:
            where = f"holdout {was.key}"
            _check_revision(where, was.revision, now.revision)
            if now.revision == was.revision:
                _refuse(where, "seed changed", was.revision, was.seed != now.seed)
                _refuse(where, "share shrank", was.revision, now.share < was.share)


def check_return(config: ExperimentConfig, retired: Mapping[str, int]) -> None:
    """Refuse what was removed and comes back under a revision that it had.

    Args:
        config: the configuration to come.
        retired: the revisions up to which keys were used that are not in force now.

    Raises:
        ExperimentError: the results of its first time would be taken for those of the second.
    """
    back = {e.key: e.revision for e in config.experiments() if e.state not in _ENDED}
    back |= {holdout.key: holdout.revision for holdout in config.holdouts}
    for key, revision in back.items():
        used = retired.get(key, 0)
        if revision <= used:
            raise ExperimentError(
                f"{key}: it was in force up to revision {used} and was removed; give it revision "
                f"{used + 1}, so that only what comes after is analysed"
            )


def retire(
    old: ExperimentConfig, new: ExperimentConfig, retired: Mapping[str, int]
) -> dict[str, int]:
    """The revisions up to which keys were used that are not in `new`; drafts were not used."""
    used = {e.key: e.revision for e in old.experiments() if e.state is not State.DRAFT}
    used |= {holdout.key: holdout.revision for holdout in old.holdouts}
    kept = {e.key for e in new.experiments() if e.state is not State.DRAFT}
    kept |= {holdout.key for holdout in new.holdouts}
    return {key: number for key, number in {**retired, **used}.items() if key not in kept}


def _check_experiment(
    old: ExperimentConfig, new: ExperimentConfig, was: Experiment, now: Experiment
) -> None:
    where = f"experiment {was.key}"
    _check_revision(where, was.revision, now.revision)
    if was.state is State.DRAFT or now.revision > was.revision:
        return
    ended = was.state in _ENDED and now.state in _ENDED
    for what, refused in (
        *_changed_arms(was, now),
        *(() if ended else _changed_hashing(old, new, was, now)),
        *(() if now.state in _ENDED else _changed_traffic(old, new, was, now)),
    ):
        _refuse(where, what, was.revision, refused)


def _changed_arms(was: Experiment, now: Experiment) -> Iterable[tuple[str, bool]]:
    yield "it went back to draft", now.state is State.DRAFT
    for field in ("variants", "control"):
        yield f"{field} changed", repr(getattr(was, field)) != repr(getattr(now, field))


def _changed_hashing(
    old: ExperimentConfig, new: ExperimentConfig, was: Experiment, now: Experiment
) -> Iterable[tuple[str, bool]]:
    for field in ("seed", "namespace", "switchback"):
        yield f"{field} changed", getattr(was, field) != getattr(now, field)
    layer, new_layer = place(old, was.key)[1], place(new, was.key)[1]
    yield "sticky was taken off", was.sticky and not now.sticky
    yield "hash changed", old.hash != new.hash
    yield "seed of its layer changed", layer.seed != new_layer.seed
    yield "unit of its layer changed", layer.unit != new_layer.unit


def _changed_traffic(
    old: ExperimentConfig, new: ExperimentConfig, was: Experiment, now: Experiment
) -> Iterable[tuple[str, bool]]:
    """Of an experiment that is under way, or will be again."""
    mixed = (was.state is State.AA) != (now.state is State.AA) or was.state is State.SHIPPED
    yield f"state changed from {was.state} to {now.state}", mixed
    domain, new_domain = place(old, was.key)[0], place(new, was.key)[0]
    yield "slots shrank or moved", not _covers(now.slots, was.slots)
    yield "slots of its domain shrank or moved", not _covers([new_domain.slots], [domain.slots])
    yield "coverage shrank", (now.coverage or 1) < (was.coverage or 1)
    # Without conditions it takes in more; whether other conditions leave somebody out is not known.
    yield "when changed", bool(now.when) and now.when != was.when


def _covers(new: Iterable[Slots], old: Iterable[Slots]) -> bool:
    return set(slot_numbers(old)) <= set(slot_numbers(new))


def _check_revision(where: str, was: int, now: int) -> None:
    if now < was:
        raise ExperimentError(
            f"{where}: revision {now} is lower than {was}, which is in force; give {was} or higher"
        )


def _refuse(where: str, what: str, revision: int, refused: bool) -> None:
    if refused:
        raise ExperimentError(
            f"{where}: {what} at revision {revision}, which moves units or mixes results; give it "
            f"revision {revision + 1}, so that only what comes after is analysed"
        )


def place(config: ExperimentConfig, key: str) -> tuple[Domain, Layer]:
    """The domain and the layer of an experiment that the configuration has."""
    return next(
        (domain, layer)
        for domain in config.domains
        for layer in domain.layers
        if any(experiment.key == key for experiment in layer.experiments)
    )


def slot_numbers(ranges: Iterable[Slots]) -> list[int]:
    """The slots of ranges, one by one."""
    return [slot for first, end in ranges for slot in range(first, end)]
