"""Experiments over HTTP, on a real server: reading, changing, refusals, the audit trail."""

import re
from typing import Any

import httpx
import pytest

from abtest.split.config import ExperimentConfig
from abtest.split.movement import Move, Movement, moved
from abtest.split.splitter import Splitter
from abtest.split.toml import to_toml
from serving.experiments.preview import SAMPLE
from tests.serving.bundles.answers import metric, refusal, wait_until
from tests.serving.experiments.configs import (
    EVERYBODY,
    RAMPED,
    Revision,
    act,
    body,
    config,
    in_force,
    put,
)
from tests.serving.world import ServerProcess


@pytest.fixture
def http(http: httpx.Client) -> httpx.Client:
    """A client of the server, in which the draft is in force."""
    put(http, draft()).raise_for_status()
    return http


def draft() -> ExperimentConfig:
    return config(state="draft")


def changed(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def trail(http: httpx.Client, limit: int = 100) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(f"/v1/experiments/audit?limit={limit}").json()["changes"]
    return found


def configuration(http: httpx.Client) -> ExperimentConfig:
    return ExperimentConfig.model_validate(in_force(http)["config"])


def test_a_configuration_is_put_and_read(http: httpx.Client) -> None:
    before = in_force(http)
    done = changed(put(http, config(), note="now it runs"))
    assert done["revision"] == before["revision"] + 1
    assert done["differences"] == ['layers.model.experiments.ranker.state: "draft" -> "running"']
    now = in_force(http)
    assert ExperimentConfig.model_validate(now["config"]) == config()
    assert (now["revision"], now["config_sha"]) == (done["revision"], done["config_sha"])
    assert (now["by"], now["note"], now["pending"]) == ("127.0.0.1", "now it runs", False)
    assert now["fault"] is None
    assert sorted(now["bundles"]) == ["baseline", "dftopk"]
    [newest] = trail(http, 1)
    assert newest == {
        "revision": now["revision"],
        "at": now["at"],
        "by": "127.0.0.1",
        "note": "now it runs",
        "config_sha": now["config_sha"],
        "differences": done["differences"],
    }


def test_who_moves_is_told_of_made_up_users_and_of_those_asked_about(http: httpx.Client) -> None:
    old, new = Splitter(draft()), Splitter(config())
    expected = moved(old, new, SAMPLE, now_us=0)
    units = [f"user{n}" for n in range(200)]
    done = changed(put(http, config(), units=units, dry_run=True))
    assert movement(done["movement"]) == expected
    assert expected.units == 10_000
    assert {(move.before, move.after) for move in expected.moves} == {(None, "old"), (None, "new")}
    assert 900 < sum(move.units for move in expected.moves) < 1100
    assert movement(done["units"]) == moved(old, new, units, now_us=0)
    assert changed(put(http, config(), dry_run=True))["units"] is None


def movement(found: dict[str, Any]) -> Movement:
    moves = tuple(Move(**{**m, "examples": tuple(m["examples"])}) for m in found["moves"])
    return Movement(found["units"], found["changed"], moves)


def test_conditions_are_looked_at_with_the_context_that_is_given(http: httpx.Client) -> None:
    there = config(when={"country": {"one_of": ["DE"]}})
    assert changed(put(http, there, dry_run=True))["movement"]["moves"] == []
    done = changed(put(http, there, dry_run=True, context={"country": "DE"}))
    assert len(done["movement"]["moves"]) == 2


def test_a_dry_run_changes_nothing_and_refuses_what_would_be_refused(http: httpx.Client) -> None:
    before = in_force(http), trail(http)
    done = changed(put(http, config(), dry_run=True))
    assert done["revision"] == before[0]["revision"]
    assert done["config_sha"] == config().sha
    damaged = config(RAMPED.replace("dftopk", "damaged"))
    said = refusal(put(http, damaged, dry_run=True), 422)
    assert "does not match its checksum in manifest" in said
    wait_until(lambda: http.get("/v1/bundles").json()["held"] == 2)
    assert (in_force(http), trail(http)) == before


def test_every_action(http: httpx.Client) -> None:
    def experiment() -> Any:  # noqa: ANN401
        return configuration(http).experiment("ranker")

    first, own = in_force(http)["revision"], Revision.now
    changed(act(http, "ranker", "aa"))
    assert (experiment().state, experiment().revision) == ("aa", own)
    changed(act(http, "ranker", "start", note="the platform splits evenly"))
    assert (experiment().state, experiment().revision) == ("running", own + 1)
    done = changed(act(http, "ranker", "ramp", share=0.25, dry_run=True))
    assert {move["before"] for move in done["movement"]["moves"]} == {None}
    assert experiment().slots == ((0, 1000),)
    changed(act(http, "ranker", "ramp", share=0.25))
    assert experiment().slots == ((0, 2500),)
    changed(act(http, "ranker", "pause"))
    changed(act(http, "ranker", "start"))
    changed(act(http, "ranker", "ship", variant="new"))
    assert experiment().winner == "new"
    items = http.post("/v1/recommend", json={"user_id": "anybody", "num": 3}).json()
    assert items["bundle"] == "dftopk@1"
    changed(act(http, "ranker", "kill"))
    assert experiment().state == "killed"
    entries = [entry for entry in trail(http) if entry["revision"] > first]
    assert [entry["revision"] for entry in reversed(entries)] == list(range(first + 1, first + 8))
    assert all(entry["differences"] for entry in entries)


@pytest.mark.parametrize(
    ("key", "action", "values", "status", "message"),
    [
        ("ranker", "pause", {}, 422, "experiment ranker is draft; pause is for aa, running: start"),
        ("ranker", "ramp", {}, 422, "ramp needs a share; send one"),
        ("ranker", "start", {"share": 0.5}, 422, "start takes no share; leave it out"),
        ("ranker", "ship", {"share": 0.5}, 422, "ship takes no share; leave it out"),
        ("ranker", "ship", {}, 422, "ship needs a variant; send one"),
        ("ranker", "ship", {"variant": "newest"}, 422, "has no variant 'newest'; it has ['old', "),
        (
            "ranker",
            "stop",
            {},
            404,
            "there is nothing at /v1/experiments/ranker/stop; the routes ar",
        ),
        ("nobody", "start", {}, 404, "there is no experiment 'nobody', there are ['ranker']"),
    ],
)
def test_refused_actions(
    http: httpx.Client, key: str, action: str, values: dict[str, Any], status: int, message: str
) -> None:
    before = in_force(http)
    assert message in refusal(act(http, key, action, **values), status)
    assert in_force(http) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EVERYBODY.replace("baseline", "gone"), "name bundle 'gone', which is not in "),
        (EVERYBODY.replace("baseline", "scoreless"), "answers with rank_failed:rank; export"),
        (EVERYBODY + "speed = 3\n", "parameter speed is unknown; known are ["),
        (EVERYBODY + 'interleave_with = "gone"\n', "name bundle 'gone', which is not in "),
    ],
)
def test_refused_configurations(http: httpx.Client, text: str, message: str) -> None:
    before = in_force(http), trail(http)
    assert message in refusal(put(http, config(text)), 422)
    assert (in_force(http), trail(http)) == before


def test_a_body_that_is_no_configuration(http: httpx.Client) -> None:
    bad = body(config())
    bad["domains"][0]["layers"][0]["experiments"][0]["variants"][0]["weight"] = 0.6
    sent = {"revision": in_force(http)["revision"], "config": bad}
    said = refusal(http.put("/v1/experiments", json=sent), 422)
    assert said.endswith("experiment ranker: weights 0.6 + 0.5 = 1.1 must sum to 1")


def test_whole_numbers_stay_what_the_parameter_is(http: httpx.Client) -> None:
    """A script in a browser reads 0.0 and sends 0."""
    valued = RAMPED.replace('with = ""', 'with = ""\nprice_exponent = 0.0').replace(
        'bundle = "dftopk"', "price_exponent = 0.5"
    )
    wanted = config(valued, state="draft")
    sent = body(wanted)
    sent["defaults"]["price_exponent"] = 0
    now = {"revision": in_force(http)["revision"], "config": sent}
    changed(http.put("/v1/experiments", json=now))
    assert in_force(http)["config_sha"] == wanted.sha


def test_an_outdated_change_says_who_came_first(http: httpx.Client, server: ServerProcess) -> None:
    before = metric(server, 'cascade_experiment_changes_total{outcome="outdated",way="http"}')
    old = in_force(http)["revision"]
    changed(put(http, config(), note="first"))
    sent = {"revision": old, "config": body(draft())}
    response = http.put("/v1/experiments", json=sent)
    assert refusal(response, 409).startswith(
        f"revision == {old} is not the newest: revision {old + 1} was made by '127.0.0.1' at 20"
    )
    found = response.json()
    assert (found["revision"], found["by"], found["note"]) == (old + 1, "127.0.0.1", "first")
    assert http.post("/v1/experiments/ranker/kill", json={"revision": old}).status_code == 409
    assert configuration(http) == config()
    after = metric(server, 'cascade_experiment_changes_total{outcome="outdated",way="http"}')
    assert after == before + 2


def test_older_versions_are_kept_and_can_be_put_again(http: httpx.Client) -> None:
    old = in_force(http)
    changed(put(http, config(EVERYBODY)))
    found = http.get(f"/v1/experiments/versions/{old['revision']}").json()
    assert found == {name: old[name] for name in found}
    sent = {"revision": old["revision"] + 1, "config": found["config"]}
    changed(http.put("/v1/experiments", json=sent))
    assert in_force(http)["config_sha"] == old["config_sha"]
    missing = http.get("/v1/experiments/versions/9999")
    assert re.match(r"there is no version of revision 9999; the newest is", refusal(missing, 404))


def test_an_edit_of_the_file_comes_after_what_was_put(
    http: httpx.Client, server: ServerProcess
) -> None:
    changed(put(http, config()))
    path = server.data_dir / "experiments.toml"
    path.write_text(to_toml(config(slots=((0, 500),))))
    wait_until(lambda: in_force(http)["fault"])
    assert "slots shrank or moved at revision" in in_force(http)["fault"]
    path.write_text(to_toml(config(slots=((0, 2000),))))
    wait_until(lambda: in_force(http)["by"] == "file")
    now = in_force(http)
    assert now["fault"] is None
    assert configuration(http) == config(slots=((0, 2000),))
    assert trail(http, 1)[0]["by"] == "file"
    changed(act(http, "ranker", "pause"))
    assert configuration(http).experiment("ranker").state == "paused"
