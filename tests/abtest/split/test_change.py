from collections.abc import Callable

import pytest

from abtest.split.change import aa, kill, pause, ramp, ship, slots_held, start
from abtest.split.config import ExperimentConfig, check_config
from abtest.split.experiment import ExperimentError, State
from abtest.split.movement import moved
from abtest.split.revision import check_change, check_return, retire
from abtest.split.splitter import Splitter
from tests.abtest.split.settings import NOON_US, UNITS, arm, config, experiment, layer, one

Action = Callable[[ExperimentConfig, str], ExperimentConfig]
SHIPPED: dict[str, object] = {"state": "shipped", "winner": "new"}


def ship_new(config: ExperimentConfig, key: str) -> ExperimentConfig:
    return ship(config, key, "new")


def in_state(state: str, **fields: object) -> ExperimentConfig:
    return one(**({**SHIPPED, **fields} if state == "shipped" else {"state": state, **fields}))


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        (start, {"draft": ("running", 1), "aa": ("running", 2), "paused": ("running", 1)}),
        (aa, {"draft": ("aa", 1)}),
        (pause, {"aa": ("paused", 2), "running": ("paused", 1)}),
        (
            kill,
            {
                "aa": ("killed", 1),
                "running": ("killed", 1),
                "paused": ("killed", 1),
                "shipped": ("killed", 1),
            },
        ),
        (ship_new, {"running": ("shipped", 1), "paused": ("shipped", 1)}),
    ],
)
def test_which_action_fits_which_state(action: Action, allowed: dict[str, tuple[str, int]]) -> None:
    for state in State:
        before = in_state(state)
        if state in allowed:
            after = action(before, "x").experiment("x")
            assert (after.state, after.revision) == allowed[state]
            assert after.winner == ("new" if after.state is State.SHIPPED else None)
            check_change(before, action(before, "x"))
        else:
            name = action.__name__.removesuffix("_new")
            message = f"experiment x is {state}; {name} is for {', '.join(allowed)}: "
            with pytest.raises(ExperimentError, match=message):
                action(before, "x")


def test_actions_name_what_is_unknown() -> None:
    for action in (start, aa, pause, kill, ship_new):
        with pytest.raises(ExperimentError, match=r"no experiment 'y'; known are \['x'\]"):
            action(one(), "y")
    with pytest.raises(ExperimentError, match="no experiment 'y'"):
        ramp(one(), "y", 0.5)
    with pytest.raises(ExperimentError, match=r"x has no variant 'best'; it has \['old', 'new'\]"):
        ship(one(), "x", "best")


def test_a_draft_starts_on_free_slots_only() -> None:
    found = config(layer(experiment("x", slots=[0, 500]), experiment("y", state="draft")))
    with pytest.raises(ExperimentError, match=r"x holds slots 0..500 and y 0..10000"):
        start(found, "y")
    after = start(ramp(found, "y", 0.1), "y")
    assert after.experiment("y").slots == ((500, 1500),)


def test_two_shipped_experiments_cannot_decide_one_parameter() -> None:
    found = config(
        layer(experiment("x", slots=[0, 5], **SHIPPED), experiment("y", slots=[5, 10])),
    )
    with pytest.raises(ExperimentError, match=r"x and y are shipped and both set bundle"):
        ship(found, "y", "new")


def test_a_ramp_adds_the_lowest_free_slots() -> None:
    found = config(
        layer(
            experiment("x", slots=[[100, 200], [300, 400]]),
            experiment("y", slots=[0, 50]),
            experiment("d", state="draft"),
        )
    )
    after = ramp(found, "x", 0.05)
    assert after.experiment("x").slots == ((50, 550),)
    assert slots_held(after.experiment("x")) == 500
    assert after.experiment("y") == found.experiment("y")
    check_change(found, after)


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_a_ramp_moves_nobody(share: float) -> None:
    before = config(layer(experiment("x", slots=[[2000, 2100], [5000, 5900]])))
    movement = moved(Splitter(before), Splitter(ramp(before, "x", share)), UNITS, NOON_US)
    assert {(move.key, move.before) for move in movement.moves} == {("x", None)}
    assert sum(move.units for move in movement.moves) == pytest.approx(
        (share - 0.1) * len(UNITS), rel=0.15
    )


def test_a_draft_is_ramped_up_and_down() -> None:
    draft = ramp(one(state="draft"), "x", 0.01)
    assert draft.experiment("x").slots == ((0, 100),)
    assert ramp(draft, "x", 0.5).experiment("x").slots == ((0, 5000),)


def test_a_ramp_with_the_hash_of_growthbook_raises_the_coverage() -> None:
    before = config(layer(experiment("x", coverage=0.2)), hash="gb2")
    after = ramp(before, "x", 0.6)
    assert after.experiment("x").coverage == 0.6
    check_change(before, after)
    movement = moved(Splitter(before), Splitter(after), UNITS, NOON_US)
    assert {move.before for move in movement.moves} == {None}
    assert sum(move.units for move in movement.moves) == pytest.approx(0.4 * len(UNITS), rel=0.1)
    whole = config(layer(experiment("x")), hash="gb2")
    with pytest.raises(ExperimentError, match="share 1 must be larger than 1, which it has"):
        ramp(whole, "x", 1)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (0, r"share == 0 must be in \(0, 1\]; a quarter is 0.25"),
        (1.1, r"share == 1.1 must be in \(0, 1\]"),
        (float("nan"), r"share == nan must be in \(0, 1\]"),
        (0.00001, r"share == 1e-05 is less than a slot; give at least 0.0001"),
        (0.1, "share 0.1 must be larger than 0.1, which it has; less traffic would throw units"),
        (0.05, "share 0.05 must be larger than 0.1, which it has; .* with a higher revision"),
        (
            0.7,
            "x: 7000 slots wanted, 6000 are its own or free in its layer; ramp less, or remove an",
        ),
    ],
)
def test_a_ramp_that_cannot_be(share: float, message: str) -> None:
    found = config(
        layer(experiment("x", slots=[0, 1000]), experiment("y", slots=[1000, 5000], state="killed"))
    )
    with pytest.raises(ExperimentError, match=message):
        ramp(found, "x", share)


def test_what_ended_is_not_ramped() -> None:
    with pytest.raises(ExperimentError, match="x is killed; ramp is for draft, aa, running"):
        ramp(one(state="killed", slots=[0, 5]), "x", 0.5)


RUNNING = experiment("x", slots=[0, 5000])


def changed(**fields: object) -> ExperimentConfig:
    return config(layer({**RUNNING, **fields}))


def by_growthbook(**fields: object) -> ExperimentConfig:
    return config(layer({**RUNNING, **fields}), hash="gb2")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (changed(), changed(variants=[arm("old", 0.4), arm("new", 0.6)]), "variants changed"),
        (changed(), changed(variants=[arm("old"), arm("new", num=3)]), "variants changed"),
        (changed(), changed(variants=[arm("new"), arm("old")]), "variants changed"),
        (changed(), changed(control="new"), "control changed"),
        (changed(), changed(slots=[0, 4999]), "slots shrank or moved"),
        (changed(), changed(slots=[5000, 10_000]), "slots shrank or moved"),
        (changed(), changed(state="draft"), "it went back to draft"),
        (changed(), changed(state="aa"), "state changed from running to aa"),
        (changed(state="aa"), changed(), "state changed from aa to running"),
        (changed(state="aa"), changed(state="paused"), "state changed from aa to paused"),
        (changed(**SHIPPED), changed(), "state changed from shipped to running"),
        (changed(**SHIPPED), changed(control="new", **SHIPPED), "control changed"),
        (changed(), changed(switchback={"period_min": 5}), "switchback changed"),
        (changed(sticky=True), changed(), "sticky was taken off"),
        (changed(), config(layer(RUNNING, seed="other")), "seed of its layer changed"),
        (changed(), config(layer(RUNNING, unit="store")), "unit of its layer changed"),
        (changed(), by_growthbook(), "hash changed"),
        (by_growthbook(), by_growthbook(seed="s"), "seed changed"),
        (by_growthbook(), by_growthbook(namespace=["n", 0, 0.5]), "namespace changed"),
        (by_growthbook(), by_growthbook(coverage=0.9), "coverage shrank"),
        (changed(), changed(when={"country": "DE"}), "when changed"),
        (changed(when={"country": "DE"}), changed(when={"country": "AT"}), "when changed"),
    ],
)
def test_a_change_that_needs_a_new_revision(
    old: ExperimentConfig, new: ExperimentConfig, what: str
) -> None:
    message = (
        f"experiment x: {what} at revision 1, which moves units or mixes results; give it "
        "revision 2, so that only what comes after is analysed"
    )
    with pytest.raises(ExperimentError) as caught:
        check_change(old, new)
    assert str(caught.value) == message
    raised = new.model_dump()
    raised["domains"][0]["layers"][0]["experiments"][0]["revision"] = 2
    check_change(old, check_config(raised))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (changed(), changed()),
        (changed(), config(layer())),
        (config(layer()), changed()),
        (changed(state="draft"), changed(variants=[arm("old", 0.4), arm("new", 0.6)])),
        (changed(), changed(slots=[0, 10_000], hypothesis="h", force={"anna": "new"})),
        (changed(when={"country": "DE"}), changed(planned_units=100)),
        (changed(state="draft"), changed(state="draft", when={"country": "DE"})),
        (changed(), changed(state="killed", slots=[0, 1])),
        (changed(state="killed"), changed()),
        (changed(**SHIPPED), config(layer(experiment("x", **SHIPPED), seed="s"), hash="gb2")),
    ],
)
def test_a_change_that_needs_none(old: ExperimentConfig, new: ExperimentConfig) -> None:
    check_change(old, new)


def test_a_revision_never_goes_down() -> None:
    for state in ("draft", "running"):
        with pytest.raises(
            ExperimentError, match="experiment x: revision 1 is lower than 2, which is in force"
        ):
            check_change(changed(revision=2, state=state), changed(state=state))


def test_what_was_removed_comes_back_under_a_new_revision() -> None:
    held = config(layer(RUNNING), holdouts=[{"key": "h", "seed": "h", "share": 0.1}])
    retired = retire(held, config(layer()), {"long ago": 7})
    assert retired == {"long ago": 7, "x": 1, "h": 1}
    assert retire(config(layer()), config(layer()), retired) == retired
    assert retire(config(layer()), changed(revision=2), retired) == {"long ago": 7, "h": 1}
    assert retire(changed(state="draft"), config(layer()), {}) == {}
    # A draft of the same key has not brought it back.
    assert retire(config(layer()), changed(state="draft", revision=2), {"x": 1}) == {"x": 1}
    check_return(changed(revision=2), retired)
    check_return(changed(state="killed"), retired)
    for back, key in ((changed(), "x"), (changed(state="draft"), "x"), (held, "[xh]")):
        with pytest.raises(
            ExperimentError, match=f"{key}: it was in force up to revision 1 and was removed; give"
        ):
            check_return(back, retired)


def test_domains_do_not_shrink_under_an_experiment() -> None:
    def part(end: int, revision: int = 1) -> ExperimentConfig:
        found = {**RUNNING, "revision": revision}
        domain = {"name": "a", "slots": [0, end], "layers": [layer(found)]}
        return check_config({"version": 1, "defaults": {"bundle": "d"}, "domains": [domain]})

    check_change(part(500), part(600))
    check_change(part(500), part(400, revision=2))
    with pytest.raises(ExperimentError, match="x: slots of its domain shrank or moved"):
        check_change(part(500), part(400))


def test_holdouts_keep_whom_they_hold() -> None:
    def held(**fields: object) -> ExperimentConfig:
        return config(holdouts=[{"key": "h", "seed": "h", "share": 0.1, **fields}])

    check_change(held(), held(share=0.2))
    check_change(held(), held(share=0.05, seed="i", revision=2))
    check_change(held(), config())
    check_change(config(), held())
    for old, new, message in (
        (held(), held(share=0.05), "holdout h: share shrank at revision 1"),
        (held(), held(seed="i"), "holdout h: seed changed at revision 1"),
        (held(revision=2), held(), "holdout h: revision 1 is lower than 2"),
    ):
        with pytest.raises(ExperimentError, match=message):
            check_change(old, new)
