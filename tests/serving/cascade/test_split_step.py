"""The split step of a request: sticky variants, held-out users, interleaved bundles, over HTTP."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis

from abtest.split.config import parse_config
from abtest.split.splitter import Splitter
from serving.state.sticky import EXPIRY_S, sticky_key
from tests.serving.cascade.test_cascade import item_ids, ranking_event, recommend
from tests.serving.experiments.configs import act, config, in_force, put
from tests.serving.test_faults import valkey_pid, wait_until, wait_until_whole
from tests.serving.world import ServerProcess, write_world

CONFIG = """
version = 1

[defaults]
bundle = "baseline"
interleave_with = ""
price_exponent = 0.0

[[holdouts]]
key = "nothing-new"
seed = "held"
share = 0.2

[[layers]]
name = "model"
seed = "model"

[[layers.experiments]]
key = "ranker"
revision = 1
state = "shipped"
winner = "new"
control = "old"
variants = [
    { name = "old", weight = 0.5 },
    { name = "new", weight = 0.5, params = { bundle = "dftopk" } },
]

[[layers]]
name = "prices"
seed = "prices"

[[layers.experiments]]
key = "prices"
revision = 3
state = "running"
sticky = true
control = "plain"
slots = [0, 9000]
variants = [
    { name = "plain", weight = 0.5 },
    { name = "dear", weight = 0.5, params = { price_exponent = 0.5 } },
]
when = { country = ["DE"] }
"""
MIXED = (
    CONFIG[: CONFIG.index("[[holdouts]]")]
    + """
[[layers]]
name = "model"
seed = "mixed"

[[layers.experiments]]
key = "mixed"
revision = 1
state = "running"
control = "alone"
variants = [
    { name = "alone", weight = 0.5 },
    { name = "both", weight = 0.5, params = { interleave_with = "dftopk" } },
]
"""
)
DE = {"country": "DE"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("split")
    write_world(data_dir)
    (data_dir / "experiments.toml").write_text(CONFIG)
    process = ServerProcess(data_dir)
    process.start()
    yield process
    assert process.stop() == 0, process.log_path.read_text()


def kept(server: ServerProcess, user: str) -> dict[bytes, bytes]:
    with redis.Redis(unix_socket_path=str(server.data_dir / "valkey" / "valkey.sock")) as client:
        found: Any = client.hgetall(sticky_key(user))
        assert not found or 0 < int(client.ttl(sticky_key(user))) <= EXPIRY_S
        return dict(found)


def variants(answer: dict[str, Any]) -> dict[str, str]:
    return {given["key"]: given["variant"] for given in answer["experiments"]}


def test_users_in_a_holdout_get_the_defaults_and_others_what_was_shipped(
    http: httpx.Client,
) -> None:
    bundles = Counter[tuple[str, str]]()
    for number in range(60):
        answer = recommend(http, user_id=f"user{number}", num=1)
        bundles[variants(answer)["nothing-new"], answer["bundle"]] += 1
    assert set(bundles) == {("held", "baseline@1"), ("open", "dftopk@1")}


def test_a_variant_is_kept_when_conditions_and_hashing_say_otherwise(
    http: httpx.Client, server: ServerProcess
) -> None:
    splitter = Splitter(parse_config(CONFIG))

    def hashed(user: str) -> str | None:
        given = splitter.assign(user, now_us=0, attributes=DE).assignments
        return next((a.variant for a in given if a.key == "prices"), None)

    names = [f"sticky{n}" for n in range(200)]
    user = next(name for name in names if hashed(name) == "plain")
    outside = recommend(http, user_id=user, num=1)
    assert "prices" not in variants(outside)
    assert kept(server, user) == {}
    assert variants(recommend(http, user_id=user, num=1, context=DE))["prices"] == "plain"
    wait_until(lambda: kept(server, user) == {b"prices@3": b"plain"})
    # It is in the experiment now, wherever it asks from.
    later = recommend(http, user_id=user, num=1, context={"country": "FR"})
    assert variants(later)["prices"] == "plain"
    assert ranking_event(server, later["request_id"]).experiments[-1].propensity == 0.5
    # What is kept decides, not the hash.
    other = next(name for name in names if name != user and hashed(name) == "plain")
    with redis.Redis(unix_socket_path=str(server.data_dir / "valkey" / "valkey.sock")) as client:
        client.hset(sticky_key(other), "prices@3", "dear")
        client.expire(sticky_key(other), 60)
    assert variants(recommend(http, user_id=other, num=1, context=DE))["prices"] == "dear"
    assert kept(server, other) == {b"prices@3": b"dear"}


def test_without_the_store_hashing_decides_and_the_answer_says_so(
    http: httpx.Client, server: ServerProcess
) -> None:
    user = "away"
    whole = recommend(http, user_id=user, num=1, context=DE)
    pid = valkey_pid(server.data_dir)
    os.kill(pid, signal.SIGSTOP)
    try:
        degraded = recommend(http, user_id=user, num=1, context=DE)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "sticky_unknown" in degraded["degraded"]
    assert variants(degraded) == variants(whole)
    wait_until_whole(server.url)
    wait_until(lambda: recommend(http, user_id=user, num=1)["degraded"] == [])


def test_what_is_kept_is_read_only_where_an_experiment_is_sticky(
    http: httpx.Client, server: ServerProcess
) -> None:
    def commands_of(user: str) -> list[str]:
        with (
            redis.Redis(unix_socket_path=str(server.data_dir / "valkey" / "valkey.sock")) as client,
            client.monitor() as monitor,
        ):
            recommend(http, user_id=user, num=1, context=DE)
            client.echo(user)
            heard: list[str] = []
            while not heard or not heard[-1].startswith("ECHO"):
                heard.append(str(monitor.next_command()["command"]))
        return [command for command in heard if f"{{{user}}}" in command]

    key = sticky_key("watched")
    commands = commands_of("watched")
    assert sorted(c.partition(" ")[0] for c in commands[:2]) == ["HGETALL", "MGET"]
    assert f"HGETALL {key}" in commands
    assert act(http, "prices", "pause").status_code == 200
    assert not [command for command in commands_of("watched") if key in command]
    assert act(http, "prices", "start").status_code == 200


def test_equal_variants_of_two_domains_are_not_taken_for_each_other(http: httpx.Client) -> None:
    """Neither has an assignment; in one of them a bundle was shipped."""
    shipped = CONFIG[CONFIG.index("[[layers]]") : CONFIG.rindex("[[layers]]")]
    domains = f"""{CONFIG[: CONFIG.index("[[holdouts]]")]}
[[domains]]
name = "left"
slots = [0, 5000]
[[domains]]
name = "right"
slots = [5000, 10000]
{shipped.replace("[[layers", "[[domains.layers")}
"""
    assert put(http, config(CONFIG, state="killed", winner=None)).status_code == 200
    assert put(http, parse_config(domains)).status_code == 200
    splitter = Splitter(parse_config(domains))
    for number in range(40):
        answer = recommend(http, user_id=f"user{number}", num=1)
        assert answer["experiments"] == []
        wanted = splitter.assign(f"user{number}", now_us=0).params["bundle"]
        assert answer["bundle"] == f"{wanted}@1"


def test_two_bundles_answer_together(http: httpx.Client, server: ServerProcess) -> None:
    before = in_force(http)
    assert put(http, config(MIXED)).status_code == 200
    answers = [recommend(http, user_id=f"mixed{n}", num=6, explain=True) for n in range(40)]
    found = Counter(variants(answer)["mixed"] for answer in answers)
    assert set(found) == {"alone", "both"}
    firsts = Counter[str]()
    for answer in answers:
        event = ranking_event(server, answer["request_id"])
        if variants(answer)["mixed"] == "alone":
            assert (answer["bundle"], event.teams) == ("baseline@1", ())
            continue
        assert answer["bundle"] == event.bundle == "baseline@1+dftopk@1"
        assert len(set(item_ids(answer))) == 6
        # Popular items are recalled by both; one orders them downwards, the other upwards.
        down, up = ["i11", "i10", "i9"], ["i1", "i2", "i4"]
        picked = {name: [i for i, t in zip(item_ids(answer), event.teams, strict=True) if t == name]
                  for name in ("baseline", "dftopk")}  # fmt: skip
        assert picked == {"baseline": down, "dftopk": up}
        assert [set(event.teams[n : n + 2]) for n in (0, 2, 4)] == [{"baseline", "dftopk"}] * 3
        firsts[event.teams[0]] += 1
        names = [stage.name for stage in event.stages]
        assert names == ["retrieval", "rank", "second.retrieval", "second.rank"]
        assert {stage["name"] for stage in answer["stages"]} == set(names)
        assert not {"not_interleaved", "not_credited"} & set(answer["degraded"])
        assert event.latency_us["wait"] >= 0
    assert set(firsts) == {"baseline", "dftopk"}
    assert before["revision"] + 1 == in_force(http)["revision"]


def test_where_one_bundle_fails_the_stages_of_the_other_stand(http: httpx.Client) -> None:
    answers = [
        recommend(http, user_id=f"mixed{n}", num=4, context={"mode": "fail"}) for n in range(20)
    ]
    both = [answer for answer in answers if variants(answer)["mixed"] == "both"]
    assert both
    for answer in both:
        assert item_ids(answer) == ["i1", "i2", "i4", "i5"]
        assert "rank_failed:rank" in answer["degraded"]
