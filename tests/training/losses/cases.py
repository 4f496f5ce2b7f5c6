"""Random requests with everything that is awkward, and a cascade of losses to judge them with."""

from typing import NamedTuple, get_args

import torch
from torch import Tensor

from training.losses import CascadeLoss, Judgments, LossConfig, cascade_loss
from training.losses.config import LossName

TRUTH = 2
KEEPS = {2: (5, 3), 3: (6, 5, 3)}
ENTRY_DEPTHS = {2: (0, 3), 3: (0, 2, 4)}
NAMES: tuple[LossName, ...] = get_args(LossName)


class Case(NamedTuple):
    scores: list[Tensor]
    judgments: Judgments


def loss_of(
    name: LossName, stages: int, *, tau: float = 0.7, sort: str = "neuralsort"
) -> CascadeLoss:
    config = LossConfig.model_validate({"name": name, "tau": tau, "sort": sort})
    loss = cascade_loss(config, KEEPS[stages], TRUTH, ENTRY_DEPTHS[stages])
    assert isinstance(loss, CascadeLoss)
    return loss.double()


def random_case(stages: int, *, tied_scores: bool = False, seed: int = 0) -> Case:
    """Requests with 8, 7, 6, 3, 2, 1 and 0 valid candidates of 8, in any order."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([8, 7, 6, 3, 2, 1, 0])
    shape = (len(sizes), 8)

    def uniform() -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    valid = uniform().argsort(1).argsort(1) < sizes.unsqueeze(1)
    depth = (uniform() * (stages + 3)).long()
    # A grade below 3 is shared by many.
    grades = torch.where(
        depth > stages + 1, 3 + (uniform() * 9).round(), depth.clamp(max=2).double()
    )
    best = grades.masked_fill(~valid, -1).sort(dim=1, descending=True, stable=True).indices
    relevant = torch.zeros(shape, dtype=torch.bool).scatter(1, best[:, :TRUTH], True)
    relevant &= valid & (depth > 0)
    scores = [4 * uniform() - 2 for _ in range(stages)]
    if tied_scores:
        scores = [(2 * x).round() / 2 for x in scores]
    weights = torch.rand(len(sizes), generator=generator, dtype=torch.float64) + 0.5
    return Case(scores, Judgments(grades, depth, relevant, valid, weights))


def leaves(scores: list[Tensor]) -> list[Tensor]:
    return [x.detach().clone().requires_grad_() for x in scores]
