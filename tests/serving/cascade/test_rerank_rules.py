"""The file of rules: what is refused, and how its changes come into force."""

import asyncio
from pathlib import Path

import pytest

from serving.cascade.rerank.rulebook import Rulebook
from serving.cascade.rerank.rules import Rules, RulesError, parse_rules
from serving.telemetry.metrics import Metrics

EXAMPLE = Path("docs/rules.toml")

GOOD = """
[[pins]]
name = "launch"
item = "i7"
position = 0
"""
OTHER = GOOD.replace("i7", "i8")
BAD = GOOD.replace("position = 0", "position = -1")


def test_the_example_in_the_documentation_is_a_file_of_rules() -> None:
    rules = parse_rules(EXAMPLE.read_text())
    assert rules.pins
    assert rules.boosts
    assert rules.caps
    assert rules.blocks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pins = [", "rules is not valid TOML: "),
        ("[[pin]]", "rules: pin is no key of the rules; remove it or correct its name"),
        (
            GOOD + "colour = 1",
            "rules: pins.0.colour is no key of the rules; remove it or correct its name",
        ),
        (
            GOOD.replace('item = "i7"', ""),
            "rules: pins.0.item is missing; every rule of this kind needs it",
        ),
        (
            BAD,
            "rules: pins.0.position = -1: Input should be greater than or equal to 0; correct it",
        ),
        (
            GOOD.replace("position = 0", "position = 200"),
            "rules: pins.0.position = 200: Input should be less than 200; correct it",
        ),
        (
            GOOD.replace("launch", "Launch now"),
            "rules: pins.0.name = 'Launch now': String should match pattern "
            "'^[a-z0-9][a-z0-9-]{0,63}$'; correct it",
        ),
        (GOOD + GOOD, "rules: rule names ['launch'] occur twice; every name must be unique"),
        (
            '[[boosts]]\nname = "sale"\nfactor = 0\nitems = ["i1"]',
            "rules: boosts.0.factor = 0: Input should be greater than 0; correct it",
        ),
        (
            '[[blocks]]\nname = "recall"',
            "rules: rule recall: names no items and no fields; give it either",
        ),
        (
            '[[blocks]]\nname = "recall"\nfields = { colour = [] }',
            "rules: blocks.0.fields.colour = []: ",
        ),
        (
            GOOD + "start = 2026-03-02T00:00:00Z\nend = 2026-03-01T00:00:00Z",
            "rules: rule launch: end 2026-03-01T00:00:00+00:00 must be after start "
            "2026-03-02T00:00:00+00:00",
        ),
        (
            GOOD + "start = 2026-03-02T00:00:00",
            "rules: pins.0.start = datetime.datetime(2026, 3, 2, 0, 0): Input should have "
            "timezone info; correct it",
        ),
        (
            '[[caps]]\nname = "brands"\nfield = "brand"\nmost = 0',
            "rules: caps.0.most = 0: Input should be greater than or equal to 1; correct it",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(RulesError) as error:
        parse_rules(text)
    assert str(error.value).startswith(message)
    if not message.endswith(": "):
        assert str(error.value) == message


def poll(rulebook: Rulebook) -> None:
    asyncio.run(rulebook.poll())


def pinned(rulebook: Rulebook) -> list[str]:
    return [pin.item for pin in rulebook.rules.pins]


def refused(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("cascade_bad_files_total", {"file": "rules.toml"})


def test_rules_follow_their_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, metrics = tmp_path / "rules.toml", Metrics()
    rulebook = Rulebook(path, metrics)
    assert rulebook.rules == Rules()
    path.write_text(GOOD)
    with caplog.at_level("INFO"):
        poll(rulebook)
        poll(rulebook)
    assert pinned(rulebook) == ["i7"]
    assert caplog.messages == ["rules in force: 1 pins, 0 boosts, 0 caps, 0 blocks"]
    path.write_text(OTHER)
    poll(rulebook)
    assert pinned(rulebook) == ["i8"]
    assert refused(metrics) is None


@pytest.mark.parametrize("content", [BAD.encode(), b'# caf\xe9\n[[pins]]\nname = "x"'])
def test_a_bad_file_keeps_the_rules_and_says_why_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path, metrics = tmp_path / "rules.toml", Metrics()
    path.write_text(GOOD)
    rulebook = Rulebook(path, metrics)
    path.write_bytes(content)
    poll(rulebook)
    poll(rulebook)
    assert pinned(rulebook) == ["i7"]
    [message] = caplog.messages
    assert message == f"the rules stay as they were: {rulebook.fault}"
    assert str(path) in message
    assert refused(metrics) == 1
    path.write_text(OTHER)
    poll(rulebook)
    assert pinned(rulebook) == ["i8"]
    assert rulebook.fault is None


def test_a_bad_file_that_is_taken_back_is_no_fault_any_more(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD)
    rulebook = Rulebook(path, Metrics())
    path.write_text(BAD)
    poll(rulebook)
    path.write_text(GOOD)
    poll(rulebook)
    assert rulebook.fault is None


def test_a_file_that_is_gone_for_a_moment_is_not_gone(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(GOOD)
    rulebook = Rulebook(path, Metrics())
    path.unlink()
    poll(rulebook)
    assert pinned(rulebook) == ["i7"]
    path.write_text(OTHER)
    poll(rulebook)
    assert pinned(rulebook) == ["i8"]
    path.unlink()
    poll(rulebook)
    poll(rulebook)
    assert rulebook.rules == Rules()


def test_a_path_that_is_no_file_keeps_the_rules(tmp_path: Path) -> None:
    path, metrics = tmp_path / "rules.toml", Metrics()
    path.write_text(GOOD)
    rulebook = Rulebook(path, metrics)
    path.unlink()
    path.mkdir()
    poll(rulebook)
    poll(rulebook)
    assert pinned(rulebook) == ["i7"]
    assert rulebook.fault == (
        f"{path} cannot be read (Is a directory); make it a readable file, or remove it"
    )
    assert refused(metrics) == 1


def test_bad_rules_at_the_start_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(BAD)
    with pytest.raises(RulesError, match=r"rules\.toml: pins\.0\.position = -1"):
        Rulebook(path, Metrics())
