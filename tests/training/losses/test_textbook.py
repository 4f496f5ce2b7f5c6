"""Every loss against the textbook: values and gradients, masks, weights, ties, short requests."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from tests.training.losses import textbook
from tests.training.losses.cases import Case, leaves, loss_of, random_case
from training.losses import CascadeLoss, full_stage
from training.losses.config import LossName
from training.losses.threshold import OPERATOR_OF

TAU = 0.7
NAMES: tuple[LossName, ...] = (
    "bce", "icc", "rankflow", "fs_ranknet", "fs_lambdaloss", "arf", "arf_v2", "lcron",
    "dftopk", "lapsum", "sparse", "logistic",
)  # fmt: skip
SORTED: tuple[LossName, ...] = ("arf", "arf_v2", "lcron")


def log_variance(loss: CascadeLoss) -> Tensor:
    return loss.get_parameter("criterion.weighting.log_variance")


def weighted(loss: CascadeLoss, losses: Sequence[Tensor]) -> Tensor:
    """With w_t of .5/w_t^2 L_t + ln w_t."""
    w = (log_variance(loss) / 2).exp()
    return sum((0.5 / w[t] ** 2 * x + w[t].log() for t, x in enumerate(losses)), torch.zeros(()))


def expected(loss: CascadeLoss, name: LossName, case: Case, sort: str) -> Tensor:
    stages = len(case.scores)
    if name in OPERATOR_OF:
        singles, joint = textbook.threshold(case, stages, OPERATOR_OF[name], TAU)
        return weighted(loss, singles) + joint
    if name == "lcron":
        singles, joint = textbook.lcron(case, stages, sort, TAU)
        return weighted(loss, singles) + joint
    if name in ("arf", "arf_v2"):
        relax, order = textbook.arf(case, stages, sort, TAU, normalised=name == "arf_v2")
        return weighted(loss, order) + torch.stack(relax).sum()
    plain: dict[str, Callable[[], list[Tensor]]] = {
        "bce": lambda: textbook.bce(case, stages),
        "conditional": lambda: textbook.conditional(case, stages, TAU),
        "icc": lambda: textbook.icc(case, stages, TAU),
        "rankflow": lambda: textbook.rankflow(case, stages),
        "fs_ranknet": lambda: textbook.fs_ranknet(case, stages),
        "fs_lambdaloss": lambda: textbook.fs_lambdaloss(case, stages, full_stage.TOP),
    }
    return torch.stack(plain[name]()).sum()


def check(name: LossName, case: Case, sort: str = "neuralsort") -> None:
    loss = loss_of(name, len(case.scores), tau=TAU, sort=sort)
    if any(True for _ in loss.parameters()):
        with torch.no_grad():
            log_variance(loss).copy_(torch.tensor([0.3, -0.8, 0.5])[: len(case.scores)])
    mine, theirs = leaves(case.scores), leaves(case.scores)
    value = loss(mine, case.judgments).total
    reference = expected(loss, name, case._replace(scores=theirs), sort)
    torch.testing.assert_close(value, reference.to(value.dtype), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(value, mine), torch.autograd.grad(reference, theirs),
        rtol=1e-8, atol=1e-10,
    )  # fmt: skip


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients(name: LossName, stages: int) -> None:
    check(name, random_case(stages))


@pytest.mark.parametrize("name", NAMES)
def test_tied_scores(name: LossName) -> None:
    check(name, random_case(2, tied_scores=True))


@pytest.mark.parametrize("name", SORTED)
@pytest.mark.parametrize("sort", ["softsort", "diffsort"])
def test_other_sorts(name: LossName, sort: str) -> None:
    check(name, random_case(2, seed=1), sort)


def test_places_beyond_the_top_of_lambdaloss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_stage, "TOP", 3)
    check("fs_lambdaloss", random_case(2))


def test_chunks_add_up_to_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.losses.chunks.PAIRS", 150)
    for name in ("icc", "fs_ranknet", "fs_lambdaloss", *SORTED):
        check(name, random_case(2))
