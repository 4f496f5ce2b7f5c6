"""Options: what is refused, and what every request will carry."""

import argparse
from pathlib import Path

import pytest

from loadtest.options import add_options, read_options
from loadtest.presets import Preset, Scale
from loadtest.step import LoadError


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(["--preset", "smoke", *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--preset", "smok"),
            r"--preset 'smok' must be one of smoke, knee, spike, ramp, soak, all",
        ),
        (("--rate", "0"), r"--rate 0 must be above 0"),
        (("--rate", "inf"), r"--rate inf must be above 0"),
        (("--step-s", "nan"), r"--step-s nan must be above 0"),
        (("--closed-users", "0"), r"--closed-users 0 must be above 0"),
        (("--made-up-users", "-3"), r"--made-up-users -3 must be above 0"),
        (("--deadline-ms", "0"), r"--deadline-ms 0 must be above 0"),
        (("--think-s", "-1"), r"--think-s -1 must be at least 0"),
        (("--buying-share", "1.5"), r"--buying-share 1.5 must be at least 0 and at most 1"),
        (("--users-from", "no.txt"), r"no\.txt does not exist"),
        (("--slo", "no.toml"), r"no\.toml does not exist"),
    ],
)
def test_wrong_options_are_refused_by_name_value_and_rule(
    words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(LoadError, match=message):
        read_options(parsed(*words))


def test_options_reach_scale_and_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CASCADE_API_KEY", raising=False)
    plain = read_options(parsed())
    assert (plain.preset, plain.scale) == (Preset.SMOKE, Scale(10.0, None, 16))
    assert plain.traffic.headers == {}
    assert len(plain.population.user_ids) == 5000
    assert (plain.objectives, plain.html, plain.json) == ((), None, None)
    monkeypatch.setenv("CASCADE_API_KEY", "k")
    html = str(tmp_path / "r.html")
    chosen = read_options(
        parsed("--deadline-ms", "70", "--rate", "9", "--step-s", "1", "--report-html", html)
    )
    assert chosen.traffic.headers == {"Authorization": "Bearer k", "X-Deadline-Ms": "70"}
    assert chosen.scale == Scale(1.0, 9.0, 16)
    assert chosen.html == Path(html)
