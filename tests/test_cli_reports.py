"""`cascade report`, `plan` and `aa` on archived traffic."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from abtest.analysis.metrics_file import load_metrics
from abtest.analysis.statistics.effect import FalsePositives, Interval
from abtest.report.model import Report
from abtest.report.sizing import Sizing, days_until, verdict
from abtest.split.toml import to_toml
from cli import main
from serving.settings import Settings
from serving.state.store import Store
from tests.abtest.traffic import KEY, append, archived, config, world

METRICS = load_metrics()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 units over eight days, whose last orders come on the ninth and are still in the store."""
    folder = tmp_path_factory.mktemp("var")
    (folder / "experiments.toml").write_text(to_toml(config(extra="planned_units = 590")))
    settings = Settings(data_dir=folder)
    events = world(600, config(), seed=21, uplift=2.0, days=8)
    with Store(settings) as store, store.sync_client() as client:
        archived(client, events[:-50], settings.events_dir)
        append(client, events[-50:])
    return folder


def run(*words: object, code: int = 0) -> str:
    result = CliRunner(env={"OMP_NUM_THREADS": "1"}).invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_report_says_what_to_do_and_writes_a_page(data_dir: Path) -> None:
    out = run("report", KEY, "--data-dir", data_dir)
    assert f"SHIP · {KEY} · revision 1 · running · 2026-01-01 to 2026-01-0" in out
    page = data_dir / "reports" / f"{KEY}.html"
    assert out.endswith(f"page: {page}\n")
    assert "Ship new" in page.read_text()
    found = Report.model_validate_json(run("report", KEY, "--data-dir", data_dir, "--json"))
    assert (found.units, found.decision.call, found.replay) == (600, "ship", False)
    elsewhere = data_dir / "deep" / "page.html"
    experiments = data_dir / "experiments.toml"
    live = experiments.read_text()
    try:
        experiments.write_text(f'traffic = "replay"\n{live}')
        run("report", KEY, "--data-dir", data_dir, "--html", elsewhere)
    finally:
        experiments.write_text(live)
    assert "replayed traffic" in elsewhere.read_text()


def test_plan_says_how_many_units(data_dir: Path) -> None:
    out = run("plan", "--data-dir", data_dir, "--days", 9, "--effect", 0.1)
    found = Sizing.model_validate_json(
        run("plan", "--data-dir", data_dir, "--days", 9, "--effect", 0.1, "--json")
    )
    assert f"planned_units = {found.planned_units}  #" in out
    assert found.planned_units == 2 * found.plan.units_per_variant
    assert (found.history_units, found.history_days) == (600, 9)
    middle = found.table[2]
    assert middle.units == found.planned_units
    assert middle.relative_effect == pytest.approx(0.1, rel=0.01)
    assert middle.days == found.plan.days
    half = found.table[1]
    assert half.relative_effect == pytest.approx(0.1 * 2**0.5, rel=0.02)
    more = Sizing.model_validate_json(
        run("plan", "--data-dir", data_dir, "--days", 9, "--effect", 0.1, "--variants", 3,
            "--share", 0.5, "--json")
    )  # fmt: skip
    assert more.plan.units_per_variant > found.plan.units_per_variant
    assert (more.plan.days or 0) > (found.plan.days or 0)


def test_plan_and_aa_say_what_is_wrong(data_dir: Path, tmp_path: Path) -> None:
    wrong = run("plan", "--data-dir", data_dir, "--metric", "profit", code=2)
    assert "--metric 'profit' is not declared; known are " in wrong
    early = run("aa", "--data-dir", data_dir, "--until", "2020-01-01", code=2)
    assert "holds no answer from 2019-12-05 to 2020-01-01; name other days" in early
    nothing = run("aa", "--data-dir", tmp_path, code=2)
    assert "experiments.toml does not exist" in nothing


def test_aa_tells_whether_the_error_rates_hold(data_dir: Path) -> None:
    words = ("aa", "--data-dir", data_dir, "--days", 9, "--runs", 60, "--looks", 20)
    found = FalsePositives.model_validate_json(run(*words, "--json"))
    assert (found.runs, found.looks, found.units) == (60, 20, 600)
    assert found.fixed_interval.low < 0.05
    assert found.always_valid <= found.fixed + 0.05
    out = run(*words)
    assert "60 A/A experiments on 600 units of history" in out
    assert verdict(found, METRICS["revenue_per_unit"]) in " ".join(out.split())


def test_a_quantile_is_planned_and_tried_out(data_dir: Path) -> None:
    words = ("--data-dir", data_dir, "--days", 9, "--metric", "latency_p50")
    planned = Sizing.model_validate_json(run("plan", *words, "--effect", 0.05, "--json"))
    assert planned.plan.metric == "latency_p50"
    assert planned.table[2].relative_effect == pytest.approx(0.05, rel=0.02)
    out = run("plan", *words, "--effect", 0.05)
    assert f"planned_units = {planned.planned_units}  #" in out
    assert "CUPED" not in out
    tried = run("aa", *words, "--runs", 40, "--looks", 5)
    assert "40 A/A experiments on 600 units of history" in tried


@pytest.mark.parametrize(
    ("fixed", "always", "start", "advice"),
    [
        ((0.03, 0.07), (0.0, 0.04), "The platform's error rates hold on this metric.", ""),
        (
            (0.01, 0.04),
            (0.0, 0.04),
            "The platform's error rates hold. The fixed-horizon test is",
            "; cap the metric to find more",
        ),
        (
            (0.06, 0.09),
            (0.0, 0.04),
            "The fixed-horizon test errs too often on this metric",
            "cap it (cap_quantile in metrics.toml)",
        ),
        (
            (0.03, 0.07),
            (0.06, 0.1),
            "The always-valid intervals err too often on this metric",
            "Cap it (cap_quantile in metrics.toml)",
        ),
    ],
)
def test_the_verdict_follows_the_intervals(
    fixed: tuple[float, float], always: tuple[float, float], start: str, advice: str
) -> None:
    spans = [Interval(low=low, high=high) for low, high in (fixed, always)]
    found = FalsePositives(
        metric="revenue_per_unit", runs=1000, looks=100, units=5000,
        fixed=0.05, fixed_interval=spans[0],
        always_valid=0.02, always_valid_interval=spans[1],
        peeking=0.3, peeking_interval=spans[0],
    )  # fmt: skip
    told = verdict(found, METRICS["revenue_per_unit"])
    assert told.startswith(start)
    assert advice in told
    # Of means only is there a cap.
    for name in ("click_rate", "latency_p99"):
        told = verdict(found, METRICS[name])
        assert told.startswith(start)
        assert "cap" not in told.lower()


def test_days_follow_how_the_history_filled() -> None:
    came = (100, 20, 10, 10)
    assert days_until(90, came, 1.0) == 1
    assert days_until(120, came, 1.0) == 2
    assert days_until(140, came, 1.0) == 4
    assert days_until(160, came, 1.0) == 4 + 2
    assert days_until(70, came, 0.5) == 4
    assert days_until(80, came, 0.5) == 4 + 2
    assert days_until(1000, (100, 0, 0, 0), 1.0) is None
