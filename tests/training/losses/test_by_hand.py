"""Every loss of three candidates, as arithmetic."""

from collections.abc import Sequence
from math import exp, log

import pytest
import torch

from tests.training.losses.cases import NAMES
from training.losses import Judgments, Loss, LossConfig, cascade_loss
from training.losses.config import LossName

X, Z = (2.0, -1.0, 0.5), (1.0, 0.0, -1.0)
"""Scores of both stages; the first candidate is the truth, and the third is a sampled negative."""


def loss_of(name: LossName, tau: float, *stages: Sequence[float]) -> Loss:
    n = len(stages[0])
    judgments = Judgments(
        torch.tensor([[3.0, 1.0, 0.0][:n]]),
        torch.tensor([[4, 3, 0][:n]]),
        torch.tensor([[True, False, False][:n]]),
        torch.ones(1, n, dtype=torch.bool),
    )
    loss = cascade_loss(LossConfig(name=name, tau=tau), keeps=(2, 1), truth=1, entry_depths=(0, 3))
    scores = [torch.tensor([stage], dtype=torch.float64) for stage in stages]
    result: Loss = loss(scores, judgments)
    return result


def sp(x: float) -> float:
    return log(1 + exp(x))


def s(x: float) -> float:
    return 1 / (1 + exp(-x))


def softmax(*logits: float) -> list[float]:
    return [exp(x) / sum(exp(y) for y in logits) for x in logits]


def test_bce() -> None:
    parts = loss_of("bce", 1, X, Z).parts
    assert parts["stage_0"].item() == pytest.approx((sp(-2) + sp(-1) + sp(0.5)) / 3, rel=1e-12)
    assert parts["stage_1"].item() == pytest.approx((sp(-1) + sp(0)) / 2, rel=1e-12)


def test_icc() -> None:
    # The cuts are the second largest of X, 0.5, and the largest of Z, 1.
    g = [
        (1 - s(1.5)) * 2 + s(1.5) * s(0) * 1,
        (1 - s(-1.5)) * -1 + s(-1.5) * s(-1) * 0,
        (1 - s(0)) * 0.5 + s(0) * s(-2) * -1,
    ]
    expected = (sp(g[1] - g[0]) + sp(g[2] - g[0]) + sp(g[2] - g[1])) / 9
    assert loss_of("icc", 1, X, Z).total.item() == pytest.approx(expected, rel=1e-12)


def test_rankflow() -> None:
    # The first stage passes the first and the third candidate.
    parts = loss_of("rankflow", 1, X, Z).parts
    first = (sp(-2) + sp(-1) + sp(0.5)) / 3 + ((2 - 1) ** 2 + (0.5 + 1) ** 2) / 2
    assert parts["stage_0"].item() == pytest.approx(first, rel=1e-12)
    assert parts["stage_1"].item() == pytest.approx((sp(-1) + sp(-1)) / 2, rel=1e-12)


def test_fs_ranknet() -> None:
    parts = loss_of("fs_ranknet", 1, X, Z).parts
    assert parts["stage_0"].item() == pytest.approx((sp(-3) + sp(-1.5)) / 2 + sp(1.5), rel=1e-12)
    assert parts["stage_1"].item() == pytest.approx((sp(-1) + sp(-2)) / 2 + sp(-1), rel=1e-12)


def test_fs_lambdaloss() -> None:
    d1, d2, d3 = 1 / log(2), 1 / log(3), 1 / log(4)
    ideal = 3 * d1 + 1 * d2
    one, two = 0.2 * (d1 - d2), 0.2 * (d2 - d3)  # what places apart weigh, for 1 and 2
    first = 2 / ideal * (
        (3 - 1) * (two + 0.8 * (d1 - d3)) * sp(-3)
        + (3 - 0) * (one + 0.8 * (d1 - d2)) * sp(-1.5)
        + (1 - 0) * (one + 0.8 * (d2 - d3)) * sp(1.5)
    )  # fmt: skip
    second = 2 / ideal * (
        (3 - 1) * (one + 0.8 * (d1 - d2)) * sp(-1)
        + (3 - 0) * (two + 0.8 * (d1 - d3)) * sp(-2)
        + (1 - 0) * (one + 0.8 * (d2 - d3)) * sp(-1)
    )  # fmt: skip
    parts = loss_of("fs_lambdaloss", 1, X, Z).parts
    assert parts["stage_0"].item() == pytest.approx(first, rel=1e-12)
    assert parts["stage_1"].item() == pytest.approx(second, rel=1e-12)


# NeuralSort at tau 2: (2x - A, -A, -2x - A) / 2, A the sums of distances.
P = [
    softmax((4 - 4.5) / 2, (-2 - 4.5) / 2, (1 - 3) / 2),
    softmax(-4.5 / 2, -4.5 / 2, -3 / 2),
    softmax((-4 - 4.5) / 2, (2 - 4.5) / 2, (-1 - 3) / 2),
]
Q = [
    softmax((2 - 3) / 2, (0 - 2) / 2, (-2 - 3) / 2),
    softmax(-3 / 2, -2 / 2, -3 / 2),
    softmax((-2 - 3) / 2, (0 - 2) / 2, (2 - 3) / 2),
]
COLUMN_P = [P[0][j] + P[1][j] + P[2][j] + 1e-6 for j in range(3)]
COLUMN_Q = [Q[0][j] + Q[1][j] + Q[2][j] + 1e-6 for j in range(3)]


def cost(p: float) -> float:
    return -log(p + 1e-6)


def test_arf() -> None:
    # The grades fall, so the labels' permutation is the identity.
    parts = loss_of("arf", 2, X, Z).parts
    relax = [cost((P[0][0] + P[1][0]) / 2) / 3, cost(Q[0][0]) / 3]
    order = [(cost(M[0][0]) + cost(M[1][1]) + cost(M[2][2])) / 9 for M in (P, Q)]
    assert [parts["stage_0"].item(), parts["stage_1"].item()] == pytest.approx(relax, rel=1e-12)
    assert parts["stage_0_global"].item() == pytest.approx(order[0], rel=1e-12)
    expected = sum(relax) + 0.5 * sum(order)
    assert loss_of("arf", 2, X, Z).total.item() == pytest.approx(expected, rel=1e-12)


def test_arf_v2() -> None:
    parts = loss_of("arf_v2", 2, X, Z).parts
    first = (
        cost((P[0][0] + P[1][0]) / COLUMN_P[0])
        + cost(P[2][1] / COLUMN_P[1])
        + cost(P[2][2] / COLUMN_P[2])
    ) / 3
    assert parts["stage_0"].item() == pytest.approx(first, rel=1e-12)
    order = (cost(Q[0][0]) + cost(Q[1][1]) + cost(Q[2][2])) / 9
    assert parts["stage_1_global"].item() == pytest.approx(order, rel=1e-12)


def test_lcron() -> None:
    up_p, up_q = P[0][0] / COLUMN_P[0], Q[0][0] / COLUMN_Q[0]
    down_p = [(P[1][j] + P[2][j]) / COLUMN_P[j] for j in (1, 2)]
    down_q = [(Q[1][j] + Q[2][j]) / COLUMN_Q[j] for j in (1, 2)]
    singles = [
        (cost(up_p) + cost(down_p[0]) + cost(down_p[1])) / 3,
        (cost(up_q) + cost(down_q[0]) + cost(down_q[1])) / 3,
    ]
    lost = [1 - (1 - p) * (1 - q) for p, q in zip(down_p, down_q, strict=True)]
    joint = (cost(up_p * up_q) + cost(lost[0]) + cost(lost[1])) / 3
    loss = loss_of("lcron", 2, X, Z)
    assert [loss.parts[f"stage_{t}"].item() for t in (0, 1)] == pytest.approx(singles, rel=1e-12)
    assert loss.parts["joint"].item() == pytest.approx(joint, rel=1e-12)
    assert loss.total.item() == pytest.approx(0.5 * sum(singles) + joint, rel=1e-12)


def test_dftopk() -> None:
    # The thresholds are (2 + 0.5) / 2 and (1 + 0) / 2.
    p, q = [s(x - 1.25) for x in X], [s(z - 0.5) for z in Z]
    loss = loss_of("dftopk", 1, X, Z)
    for t, (a, b, c) in enumerate((p, q)):
        single = -(log(a) + log(1 - b) + log(1 - c)) / 3
        assert loss.parts[f"stage_{t}"].item() == pytest.approx(single, rel=1e-12)
    joint = -(log(p[0] * q[0]) + log(1 - p[1] * q[1]) + log(1 - p[2] * q[2])) / 3
    assert loss.parts["joint"].item() == pytest.approx(joint, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "p", "q"),
    [
        # Two candidates for one place: theta lies midway, so p = F(gap / (2 tau)).
        ("lapsum", 1 - exp(-3 / 8) / 2, 1 - exp(-1 / 8) / 2),
        ("logistic", s(3 / 8), s(1 / 8)),
        ("sparse", 1e-4 + 0.9998 * (0.5 + 3 / 8), 1e-4 + 0.9998 * (0.5 + 1 / 8)),
    ],
)
def test_sums_to_k(name: LossName, p: float, q: float) -> None:
    loss = loss_of(name, 4, X[:2], Z[:2])
    assert loss.parts["stage_0"].item() == pytest.approx(-log(p), rel=1e-9)
    assert loss.parts["stage_1"].item() == pytest.approx(-log(q), rel=1e-9)
    joint = -(log(p * q) + log(1 - (1 - p) * (1 - q))) / 2
    assert loss.parts["joint"].item() == pytest.approx(joint, rel=1e-9)
    total = joint - 0.5 * log(p) - 0.5 * log(q)
    assert loss.total.item() == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("arf", "arf_v2")])
def test_parts_are_named_after_the_stages(name: LossName) -> None:
    stages = [] if name == "icc" else ["stage_0", "stage_1"]
    joint = name in ("icc", "lcron", "dftopk", "lapsum", "sparse", "logistic")
    assert list(loss_of(name, 1, X, Z).parts) == stages + ["joint"] * joint
