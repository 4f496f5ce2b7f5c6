import json
from pathlib import Path
from typing import Any

import pytest

from abtest.split import growthbook
from abtest.split.config import check_config
from abtest.split.experiment import ExperimentError
from abtest.split.splitter import Splitter
from benchmarks.split import pairs
from tests.abtest.split.settings import NOON_US, arm, config, experiment, layer

CASES: dict[str, Any] = json.loads(
    (Path(__file__).parent / "fixtures" / "growthbook_cases.json").read_text()
)
REPAIRED = ("negative coverage", "coverage above 1", "zero coverage", "weights sum", "length not")
"""Ranges of what GrowthBook puts right in silence, and a configuration here refuses."""


def state(text: str) -> int:
    return growthbook.fnv1a(growthbook.code_units(text))


@pytest.mark.parametrize(("seed", "value", "version", "expected"), CASES["hash"])
def test_hash(seed: str, value: str, version: int, expected: float | None) -> None:
    units = growthbook.code_units(value)
    if version == 2:
        assert growthbook.bucket(state(seed), units) / 10_000 == expected
    elif version == 1:
        assert growthbook.fnv1a(growthbook.code_units(seed), state(value)) % 1000 / 1000 == expected
    else:
        assert expected is None


def weighted(count: int, coverage: float, weights: list[float] | None) -> dict[str, Any]:
    shares = weights or [1 / count] * count
    return {
        "version": 1,
        "hash": "gb2",
        "defaults": {},
        "layers": [
            layer(
                experiment(
                    "x",
                    control="v0",
                    coverage=coverage,
                    variants=[
                        {"name": f"v{number}", "weight": share}
                        for number, share in enumerate(shares)
                    ],
                )
            )
        ],
    }


@pytest.mark.parametrize(("name", "arguments", "expected"), CASES["getBucketRange"])
def test_bucket_ranges(
    name: str, arguments: tuple[int, float, list[float] | None], expected: list[list[float]]
) -> None:
    count, coverage, weights = arguments
    if any(words in name for words in REPAIRED):
        if len(weights or [None] * count) == count:
            with pytest.raises(ExperimentError, match=r"coverage: Input should be|must sum to 1"):
                check_config(weighted(count, coverage, weights))
        return
    found = check_config(weighted(count, coverage, weights)).experiment("x")
    shares = [variant.weight for variant in found.variants]
    ranges = growthbook.bucket_ranges(shares, coverage)
    assert [bound for each in ranges for bound in each] == pytest.approx(
        [bound for each in expected for bound in each]
    )


@pytest.mark.parametrize(("name", "position", "ranges", "expected"), CASES["chooseVariation"])
def test_choice(
    name: str, position: float, ranges: list[tuple[float, float]], expected: int
) -> None:
    table = growthbook.bucket_table(ranges)
    found = table[round(position * 10_000)]
    assert found == (growthbook.OUTSIDE if expected < 0 else expected), name


@pytest.mark.parametrize(("name", "unit", "namespace", "expected"), CASES["inNamespace"])
def test_namespace(
    name: str, unit: str, namespace: tuple[str, float, float], expected: bool
) -> None:
    space, first, end = namespace
    units = growthbook.code_units(unit)
    found = growthbook.in_namespace(units, growthbook.code_units(f"__{space}"), (first, end))
    assert found is expected, name


@pytest.mark.parametrize(("count", "expected"), CASES["getEqualWeights"])
def test_equal_weights(count: int, expected: list[float]) -> None:
    if count < 2:
        return
    variants = [{"name": f"v{number}"} for number in range(count)]
    found = config(layer(experiment("x", control="v0", variants=variants)))
    weights = [variant.weight for variant in found.experiment("x").variants]
    assert weights == pytest.approx(expected)


@pytest.mark.parametrize(("name", "context", "theirs", "value", "inside", "hashed"), CASES["run"])
def test_runs_of_hash_version_2(
    name: str,
    context: dict[str, Any],
    theirs: dict[str, Any],
    value: int,
    inside: bool,
    hashed: bool,
) -> None:
    assert theirs.get("ranges", [[0, 0.5], [0.5, 1]]) == [[0, 0.5], [0.5, 1]]
    assert hashed
    weights = theirs.get("weights", [0.5, 0.5])
    found = config(
        layer(
            experiment(
                theirs["key"],
                seed=theirs["seed"],
                coverage=theirs.get("coverage"),
                variants=[arm("old", weights[0]), arm("new", weights[1])],
            )
        ),
        hash="gb2",
    )
    given = Splitter(found).assign(context["attributes"]["id"], now_us=NOON_US).assignments
    assert [assignment.variant for assignment in given] == [("old", "new")[value]] * inside, name


def test_20_000_random_pairs_agree_with_the_package_of_growthbook() -> None:
    found = pairs.compare(20_000, seed=20)
    assert found.mismatches == ()
    assert found.differing == 0
    assert (found.pairs, found.experiments) == (20_000, 200)
    assert 6_000 < found.inside < 16_000


def test_every_bucket_belongs_to_the_range_it_lies_in() -> None:
    for weights in ([0.1] * 10, [1 / 3] * 3, [0.7, 0.1, 0.2], [0.0001, 0.9999]):
        for coverage in (1.0, 0.3, 0.7, 1 / 3):
            ranges = growthbook.bucket_ranges(weights, coverage)
            table = growthbook.bucket_table(ranges)
            for bucket in range(10_000):
                inside = [
                    number
                    for number, (first, end) in enumerate(ranges)
                    if first <= bucket / 10_000 < end
                ]
                assert table[bucket] == (inside[0] if inside else growthbook.OUTSIDE)


def test_an_empty_unit_is_in_no_experiment() -> None:
    found = Splitter(config(layer(experiment("x")), hash="gb2"))
    assert found.assign("", now_us=0).assignments == ()
    assert found.assign("1", now_us=0).assignments != ()


def test_slots_and_switchbacks_are_hashed_as_without() -> None:
    for fields in ({"slots": [0, 2000]}, {"switchback": {"period_min": 60}}):
        there = Splitter(config(layer(experiment("x", **fields)), hash="gb2"))
        here = Splitter(config(layer(experiment("x", **fields))))
        for number in range(300):
            theirs = there.assign(f"u{number}", now_us=NOON_US).assignments
            ours = here.assign(f"u{number}", now_us=NOON_US).assignments
            assert len(theirs) == len(ours)
            if "switchback" in fields:
                assert theirs == ours
