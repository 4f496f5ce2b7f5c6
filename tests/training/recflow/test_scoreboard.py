"""Scoreboard: what stands where."""

from training.intervals import Estimate
from training.recflow.evaluation import ConfigScore, LogEvaluation, RunScore, StageScore
from training.recflow.intervals import Gain
from training.recflow.scoreboard import render


def about(value: float, margin: float | None = None) -> Estimate:
    if margin is None:
        return Estimate(value=value, low=None, high=None)
    return Estimate(value=value, low=value - margin, high=value + margin)


STAGES = (
    StageScore(name="retrieval", keep=30, recall=about(0.97, 0.001), ndcg=about(0.71, 0.002)),
    StageScore(name="prerank", keep=20, recall=about(0.87, 0.003), ndcg=about(0.73, 0.004)),
)


def run(name: str, joint: Estimate, left_out: int = 0) -> RunScore:
    return RunScore(
        run=name, config=name[:-2], seed=int(name[-1]), requests=261_121 - left_out,
        left_out=left_out, users=38_193, joint_recall=joint, stages=STAGES,
    )  # fmt: skip


def config(
    name: str, joint: Estimate, seeds: tuple[int, ...], gain: Gain | None = None
) -> ConfigScore:
    runs = tuple(f"{name}-{seed}" for seed in seeds)
    return ConfigScore(
        config=name, runs=runs, seeds=seeds, joint_recall=joint, stages=STAGES, gain=gain
    )


def evaluation(runs: tuple[RunScore, ...], configs: tuple[ConfigScore, ...]) -> LogEvaluation:
    return LogEvaluation(
        log="recflow", fingerprint="0" * 64, day="2024-02-04", protocol="strict", runs=runs,
        configs=configs,
    )  # fmt: skip


def test_runs_configurations_and_gains() -> None:
    text = render(
        evaluation(
            (run("lcron-0", about(0.8732, 0.0005)), run("ours-0", about(0.9, 0.0006), left_out=3)),
            (
                config("lcron", about(0.8732, 0.0016), (0, 1)),
                config("ours", about(0.9), (0,), Gain(estimate=about(0.02, 0.03), over_seeds=True)),
                config("one", about(0.9), (0,), Gain(estimate=about(-0.1), over_seeds=False)),
            ),
        )
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "Runs, ± half a 95 % interval over users" in lines
    assert "lcron-0 0.8732 ± 0.0005 retrieval 30 0.9700 ± 0.0010 0.7100 ± 0.0020" in lines
    assert lines.count("prerank 20 0.8700 ± 0.0030 0.7300 ± 0.0040") == 5
    assert "Configurations, ± half a 95 % interval over seeds" in lines
    assert "lcron (2 seeds) 0.8732 ± 0.0016 retrieval 30 0.9700 ± 0.0010 0.7100 ± 0.0020" in lines
    assert "ours (1 seed) 0.9000 retrieval 30 0.9700 ± 0.0010 0.7100 ± 0.0020" in lines
    assert "Joint recall more than lcron, request by request" in lines
    assert "ours (1 seed) +0.0200 -0.0100 to +0.0500 users and seeds" in lines
    assert "one (1 seed) -0.1000 n/a users of these runs" in lines
    words = " ".join(text.split())
    assert "261,118 requests of 38,193 users, 3 without a candidate left out, 2024-02-04" in words
    assert "261,121 requests of 38,193 users, 2024-02-04 of recflow, strict protocol." in words
    assert max(map(len, text.splitlines())) <= 100


def test_one_run_is_shown_by_itself() -> None:
    text = render(evaluation((run("ours-0", about(0.9)),), (config("ours", about(0.9), (0,)),)))
    assert "Configurations" not in text
    assert "Joint recall more" not in text
    assert "261,121 requests of 38,193 users, 2024-02-04 of recflow, strict protocol." in text
