import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import chi2_contingency, chisquare
from xxhash import xxh3_64_intdigest

from abtest.split.config import ExperimentConfig, parse_config
from abtest.split.splitter import Splitter

UNITS = [f"user-{number}" for number in range(20_000)]
GOLDEN = Path(__file__).parent / "golden" / "assignments.json"


def two_layers(
    slots: str = "[0, 10000]",
    state: str = "running",
    revision: int = 1,
    weights: tuple[float, float] = (0.5, 0.5),
) -> ExperimentConfig:
    return parse_config(f"""
        version = 1
        [defaults]
        bundle = "old"
        num = 20
        [[layers]]
        name = "model"
        seed = "model-seed"
        [[layers.experiments]]
        key = "models"
        revision = {revision}
        state = "{state}"
        slots = {slots}
        control = "old"
        variants = [
            {{ name = "old", weight = {weights[0]}, params = {{ bundle = "old" }} }},
            {{ name = "new", weight = {weights[1]}, params = {{ bundle = "new" }} }},
        ]
        [[layers]]
        name = "length"
        seed = "length-seed"
        [[layers.experiments]]
        key = "lengths"
        revision = 3
        state = "running"
        slots = [2500, 10000]
        control = "c"
        variants = [
            {{ name = "short", weight = 0.2, params = {{ num = 10 }} }},
            {{ name = "c", weight = 0.3 }},
            {{ name = "long", weight = 0.5, params = {{ num = 40 }} }},
        ]
    """)


def variants(config: ExperimentConfig, layer: str) -> dict[str, str]:
    splitter = Splitter(config)
    return {
        unit: given.variant
        for unit in UNITS
        for given in splitter.assign(unit, now_us=0).assignments
        if given.layer == layer
    }


def test_assignments_never_change() -> None:
    splitter = Splitter(two_layers())
    found = {
        unit: [
            f"{a.key}@{a.revision}={a.variant}" for a in splitter.assign(unit, now_us=0).assignments
        ]
        for unit in [*UNITS[:200], "", "é", "漢字", "a b"]
    }
    assert found == json.loads(GOLDEN.read_text())


def test_hashing_follows_its_description() -> None:
    splitter = Splitter(two_layers())
    for unit in UNITS[:2_000]:
        slot = xxh3_64_intdigest(f"length-seed\x1fslot\x1f{unit}".encode()) % 10_000
        draw = xxh3_64_intdigest(f"length-seed\x1flengths\x1f3\x1fvariant\x1f{unit}".encode())
        share = draw / 2**64
        expected = (
            None if slot < 2500 else "short" if share < 0.2 else "c" if share < 0.5 else "long"
        )
        given = {a.layer: a.variant for a in splitter.assign(unit, now_us=0).assignments}
        assert given.get("length") == expected


def test_weights_are_met() -> None:
    counts = Counter(variants(two_layers(), "length").values())
    total = sum(counts.values())
    assert chisquare([total, 20_000 - total], [15_000, 5_000]).pvalue > 0.001
    expected = [0.2 * total, 0.3 * total, 0.5 * total]
    assert chisquare([counts["short"], counts["c"], counts["long"]], expected).pvalue > 0.001


def test_layers_and_revisions_are_independent() -> None:
    model = variants(two_layers(), "model")
    for other in (variants(two_layers(), "length"), variants(two_layers(revision=2), "model")):
        cells = Counter((model[unit], other[unit]) for unit in other)
        names = sorted(set(other.values()))
        table = [[cells[arm, name] for name in names] for arm in ("old", "new")]
        assert chi2_contingency(table).pvalue > 0.001


def test_variant_is_independent_of_slot() -> None:
    config = two_layers()
    model = variants(config, "model")
    low = Counter(model[unit] for unit in variants(two_layers(slots="[0, 2000]"), "model"))
    assert chisquare([low["old"], low["new"]]).pvalue > 0.001


def test_ramping_by_slots_moves_nobody() -> None:
    small = variants(two_layers(slots="[0, 1000]"), "model")
    large = variants(two_layers(slots="[0, 5000]"), "model")
    assert 1_700 < len(small) < 2_300 < len(large)
    assert all(large[unit] == variant for unit, variant in small.items())


def test_changing_weights_only_moves_units_across_the_cut() -> None:
    even, more = variants(two_layers(), "model"), variants(two_layers(weights=(0.2, 0.8)), "model")
    moved = {(even[unit], more[unit]) for unit in UNITS}
    assert moved == {("old", "old"), ("old", "new"), ("new", "new")}


@pytest.mark.parametrize("state", ["paused", "draft"])
def test_what_does_not_run_gives_defaults(state: str) -> None:
    splitter = Splitter(two_layers(state=state))
    for unit in UNITS[:200]:
        split = splitter.assign(unit, now_us=0)
        assert split.params["bundle"] == "old"
        assert all(given.layer != "model" for given in split.assignments)


def test_split_carries_parameters_propensity_and_config() -> None:
    config = two_layers(weights=(0.2, 0.8))
    splitter = Splitter(config)
    bundles, lengths = set(), set()
    for unit in UNITS[:200]:
        split = splitter.assign(unit, now_us=0)
        given = {a.layer: a for a in split.assignments}
        assert split.config_sha == config.sha
        assert given["model"].propensity == {"old": 0.2, "new": 0.8}[given["model"].variant]
        assert not given["model"].forced
        assert split.params["bundle"] == given["model"].variant
        length = given["length"].variant if "length" in given else "c"
        assert split.params["num"] == {"short": 10, "c": 20, "long": 40}[length]
        bundles.add(split.params["bundle"])
        lengths.add(split.params["num"])
    assert bundles == {"old", "new"}
    assert lengths == {10, 20, 40}
    assert splitter.config is config


def test_importing_it_loads_no_data_library() -> None:
    code = (
        "import sys, abtest.split.splitter; "
        "heavy = {'duckdb', 'pandas', 'pyarrow', 'matplotlib', 'tea_tasting', 'numpy', 'redis'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"
