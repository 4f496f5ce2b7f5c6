import tomllib
from importlib import resources

from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.split.config import ExperimentConfig, check_config, parse_config
from abtest.split.toml import to_toml
from tests.abtest.split.settings import config, experiment, layer, one

FULL = config(
    layer(
        experiment(
            "x",
            start="2026-01-01T00:00:00+01:00",
            end="2026-02-01T12:30:00.25Z",
            slots=[[0, 5], [7, 9]],
            when={"country": "DE", "age": {"at_least": 18, "below": 65.5}},
            force={"anna 'a' \"b\"": "new", "漢.字": "old"},
            sticky=True,
            secondary_metrics=["ctr"],
            guardrails=[{"metric": "p99", "tolerance": 0.1, "auto_stop": False}],
            segments=["country"],
            planned_units=1000,
            hypothesis='It sells.\n"More", even\\.',
        )
    ),
    layer(
        experiment("y", state="shipped", winner="new", variants=[{"name": "old"}, {"name": "new"}]),
        name="other",
        unit="store",
    ),
    holdouts=[{"key": "h", "seed": "s", "share": 0.05}],
)


def test_what_is_written_is_read_back() -> None:
    assert parse_config(to_toml(FULL)) == FULL
    assert parse_config(to_toml(FULL)).sha == FULL.sha
    assert "[[layers]]" in to_toml(FULL)
    assert "domains" not in to_toml(FULL)


def test_domains_are_written_where_there_are_several() -> None:
    domains = [{"name": "a", "slots": [0, 5], "layers": [layer(experiment("x"))]}]
    found = check_config({"version": 1, "defaults": {"bundle": "d"}, "domains": domains})
    assert parse_config(to_toml(found)) == found
    assert "domains" in tomllib.loads(to_toml(found))


def test_a_domain_with_all_slots_keeps_its_name() -> None:
    found = check_config(
        {"version": 1, "defaults": {}, "domains": [{"name": "a", "slots": [0, 10_000]}]}
    )
    assert parse_config(to_toml(found)) == found


def test_small_and_shipped_configurations() -> None:
    text = resources.files("abtest").joinpath("configs/dftopk-vs-baseline.toml").read_text()
    for found in (config(), config(layer()), one(), parse_config(text)):
        assert parse_config(to_toml(found)) == found
    without = check_config({"version": 1, "defaults": {}})
    assert parse_config(to_toml(without)) == without


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
VALUE = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)


@settings(max_examples=60, deadline=None)
@given(
    value=VALUE,
    unit=TEXT,
    country=st.lists(TEXT, min_size=1, max_size=3),
    weight=st.floats(0.001, 0.999),
    hypothesis=st.text(st.characters(codec="utf-8"), max_size=30),
)
def test_whatever_is_written_is_read_back(
    value: object, unit: str, country: list[str], weight: float, hypothesis: str
) -> None:
    found = config(
        layer(
            experiment(
                "x",
                variants=[
                    {"name": "old", "weight": weight, "params": {"bundle": value}},
                    {"name": "new", "weight": 1 - weight},
                ],
                force={unit: "new"},
                when={"country": country},
                hypothesis=hypothesis,
            )
        ),
        defaults={"bundle": value},
    )
    for same in (
        parse_config(to_toml(found)),
        ExperimentConfig.model_validate_json(found.model_dump_json()),
    ):
        assert same == found
        assert same.sha == found.sha
