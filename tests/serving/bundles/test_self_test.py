"""The self-test lets good bundles in and says of bad ones what is wrong."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from serving.bundles.loading import Loader
from serving.bundles.recording import RECORDED_REQUESTS, Recorded, Recording
from serving.bundles.selftest import SelfTestError, self_test
from serving.cascade.funnel import Funnel
from serving.cascade.query import Outcome, Query
from tests.serving.bundles.candidates import CPU, loaded, query, write_scoreless_bundle
from tests.serving.unruled import no_rules
from tests.serving.world import N_ITEMS, UNAVAILABLE


@pytest.fixture(scope="module")
def funnel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Funnel]:
    with loaded(tmp_path_factory.mktemp("tested")) as tiny:
        yield tiny


class Changed:
    """A funnel whose answers are changed."""

    def __init__(self, funnel: Funnel, change: Callable[[Outcome], Outcome]) -> None:
        self.items, self.manifest, self.bundle = funnel.items, funnel.manifest, funnel.bundle
        self.blocked_rows = funnel.blocked_rows
        self._funnel, self._change = funnel, change

    def run(self, queries: Sequence[Query]) -> list[Outcome]:
        return [self._change(outcome) for outcome in self._funnel.run(queries)]


def test_good_bundle_answers_made_up_and_recorded_requests(funnel: Funnel) -> None:
    excluded = query(exclude=tuple(f"i{n}" for n in range(1, N_ITEMS - 1)), num=10)
    cases = [Recorded(excluded, ()), Recorded(query(num=200), ())]
    assert self_test(funnel, cases).requests == self_test(funnel, ()).requests + 2


def first_item(item_id: str) -> Callable[[Outcome], Outcome]:
    return lambda o: o._replace(item_ids=(item_id, *o.item_ids[1:]))


def no_answer(_: Outcome) -> Outcome:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first_item(UNAVAILABLE), "tiny@1 recommends 'i3', which is unavailable or excluded; exp"),
        (first_item("i99"), "recommends 'i99', which is unavailable or excluded"),
        (lambda o: o._replace(item_ids=o.item_ids[:-1]), "gives 0 different items in 0 places w"),
        (
            lambda o: o._replace(item_ids=o.item_ids[:1] * len(o.item_ids)),
            "gives 1 different items in 20 places where 20 exist; export",
        ),
        (
            lambda o: o._replace(scores=(float("inf"),) * len(o.scores)),
            "tiny@1 gives scores that are not finite; export the run again",
        ),
        (
            lambda o: o._replace(degraded=("rank_failed:rank",)),
            "tiny@1 answers with rank_failed:rank; export the run again",
        ),
        (no_answer, r"tiny@1 fails on a request \(KeyError\('lost'\)\); export the run again"),
    ],
)
def test_bad_answers(funnel: Funnel, change: Callable[[Outcome], Outcome], message: str) -> None:
    with pytest.raises(SelfTestError, match=message):
        self_test(cast("Funnel", Changed(funnel, change)), ())


def test_excluded_item_in_a_recorded_request(funnel: Funnel) -> None:
    changed = cast("Funnel", Changed(funnel, first_item("i20")))
    with pytest.raises(SelfTestError, match="recommends 'i20', which is unavailable or excluded"):
        self_test(changed, [Recorded(query(exclude=("i20",)), ())])


def test_what_was_degraded_before_may_be_so_again(funnel: Funnel) -> None:
    broken = query(context={"mode": "nan"})
    self_test(funnel, [Recorded(broken, ("rank_failed:rank",))])
    with pytest.raises(SelfTestError, match="answers with rank_failed:rank"):
        self_test(funnel, [Recorded(broken, ())])


def test_too_slow(funnel: Funnel) -> None:
    message = r"tiny@1 takes \d+ ms for one request, the limit is 0; export it with smaller stages"
    with pytest.raises(SelfTestError, match=message):
        self_test(funnel, (), limit_ms=0)


def test_bundle_that_loads_and_cannot_rank(tmp_path: Path) -> None:
    write_scoreless_bundle(tmp_path / "scoreless")
    with pytest.raises(SelfTestError, match="scoreless@1 answers with rank_failed:rank"):
        self_test(Loader(tmp_path, CPU, no_rules()).load("scoreless"), ())


def test_recording_keeps_the_last_requests_of_each_name(funnel: Funnel) -> None:
    recording = Recording()
    [outcome] = funnel.run([query()])
    for number in range(RECORDED_REQUESTS + 3):
        recording.note("a", query(number), outcome._replace(degraded=("x",)))
    kept = recording.of("a")
    assert [each.query.request_id for each in kept][:2] == ["request3", "request4"]
    assert len(kept) == RECORDED_REQUESTS
    assert {each.degraded for each in kept} == {("x",)}
    assert recording.of("b") == ()
