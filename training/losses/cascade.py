"""Cascade losses by the name that configurations use.

Legend: B requests, N candidates, T stages.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import reduce
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.losses.arf import AdaptiveRanking
from training.losses.conditional import EveryCut
from training.losses.config import LossConfig
from training.losses.full_stage import FullStageLambdaLoss, FullStageRankNet
from training.losses.icc import EnsembleOrder
from training.losses.judgments import Judgments, Loss
from training.losses.lcron import OneNetwork
from training.losses.rankflow import RankFlow
from training.losses.stagewise import StagewiseCrossEntropy
from training.losses.threshold import OPERATOR_OF, JointTopK


class Funnel(NamedTuple):
    """What a loss has to know of the cascade, the first stage first."""

    keeps: tuple[int, ...]
    """Candidates each stage passes on."""
    truth: int | None
    """Candidates the cascade should answer with; None: as many as are relevant."""
    entry_depths: tuple[int, ...]
    """`Judgments.depth_BN` from which on a candidate reached the stage when it was logged."""


def _threshold(config: LossConfig, funnel: Funnel) -> nn.Module:
    return JointTopK(len(funnel.keeps), funnel.truth, OPERATOR_OF[config.name], config.tau)


def _arf(config: LossConfig, funnel: Funnel) -> nn.Module:
    normalised = config.name == "arf_v2"
    return AdaptiveRanking(funnel.keeps, config.sort, config.tau, normalised=normalised)


LOSSES: Mapping[str, Callable[[LossConfig, Funnel], nn.Module]] = MappingProxyType(
    {
        "bce": lambda _, funnel: StagewiseCrossEntropy(funnel.entry_depths),
        "icc": lambda config, funnel: EnsembleOrder(funnel.keeps, config.tau),
        "rankflow": lambda _, funnel: RankFlow(funnel.keeps),
        "fs_ranknet": lambda *_: FullStageRankNet(),
        "fs_lambdaloss": lambda *_: FullStageLambdaLoss(),
        "arf": _arf,
        "arf_v2": _arf,
        "lcron": lambda config, funnel: OneNetwork(
            len(funnel.keeps), funnel.truth, config.sort, config.tau
        ),
        **dict.fromkeys(OPERATOR_OF, _threshold),
        "conditional": lambda config, _: EveryCut(config.tau),
    }
)
"""Makes of every loss, by its name."""


def cascade_loss(
    config: LossConfig, keeps: Sequence[int], truth: int | None, entry_depths: Sequence[int]
) -> nn.Module:
    """The loss that a configuration names, for a cascade of two or three stages.

    Args:
        config: name, temperature and sort.
        keeps: candidates each stage passes on, the first stage first.
        truth: how many candidates the cascade should answer with, or None where each request has a
            number of its own: as many as are relevant.
        entry_depths: the depth from which on a candidate had reached the stage when it was logged.

    Returns:
        A module whose `forward(stage_scores, judgments)` gives a `Loss`. Its parts are `stage_0`
        and so on, before they are weighted, and `joint` where there is one. It may have parameters.

    Raises:
        ValueError: there is no loss of that name, or an argument of a wrong length or range.
    """
    if config.name not in LOSSES:
        close = get_close_matches(str(config.name), LOSSES, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"loss == {config.name!r} must be one of: {', '.join(LOSSES)}{hint}")
    if len(keeps) not in (2, 3):
        raise ValueError(f"keeps {list(keeps)} must be those of 2 or 3 stages; give one a stage")
    if len(entry_depths) != len(keeps):
        raise ValueError(
            f"entry_depths {list(entry_depths)} must be one for each of {len(keeps)} stages"
        )
    for name, value in (*(("keep", keep) for keep in keeps), ("truth", truth)):
        if value is not None and value < 1:
            raise ValueError(f"{name} == {value} must be at least 1 candidate; raise it")
    funnel = Funnel(tuple(keeps), truth, tuple(entry_depths))
    return CascadeLoss(LOSSES[config.name](config, funnel), len(keeps))


class CascadeLoss(nn.Module):
    """A loss behind its checks: what is in the padding stays outside, half precision is widened."""

    def __init__(self, criterion: nn.Module, stages: int) -> None:
        """Wrap a loss that trusts its arguments."""
        super().__init__()
        self.criterion, self.stages = criterion, stages

    def forward(self, stage_scores: Sequence[Tensor], judgments: Judgments) -> Loss:
        """Loss of a batch.

        Args:
            stage_scores: for each stage, the first one first, floating point [B, N]; finite where
                valid, any number in the padding.
            judgments: of the same candidates.

        Returns:
            Scalars: float64 if the scores are and float32 otherwise.

        Raises:
            ValueError: another number of stages, or a tensor of another type or shape.
        """
        _check(stage_scores, judgments, self.stages)
        wide = reduce(torch.promote_types, (x.dtype for x in stage_scores), torch.float32)
        padding_BN = ~judgments.valid_BN
        scores = [scores_BN.to(wide).masked_fill(padding_BN, 0.0) for scores_BN in stage_scores]
        weights_B = judgments.weights_B
        if weights_B is None:
            weights_B = torch.ones(len(padding_BN), device=padding_BN.device)
        prepared = Judgments(
            judgments.grades_BN.to(wide).masked_fill(padding_BN, 0.0),
            judgments.depth_BN.masked_fill(padding_BN, 0),
            judgments.relevant_BN,
            judgments.valid_BN,
            weights_B.to(wide),
        )
        with torch.autocast(padding_BN.device.type, enabled=False):
            loss: Loss = self.criterion(scores, prepared)
        return loss


def _check(stage_scores: Sequence[Tensor], judgments: Judgments, stages: int) -> None:
    """Require one [B, N] a stage, and judgments of the same candidates.

    Raises:
        ValueError: another number of stages, or a tensor of another type or shape.
    """
    if len(stage_scores) != stages:
        raise ValueError(f"scores of {len(stage_scores)} stages given, {stages} were announced")
    shape = judgments.valid_BN.shape
    if len(shape) != 2:
        raise ValueError(f"valid of shape {list(shape)} must be [B, N]; add the missing dimension")
    for name, flags in (("relevant", judgments.relevant_BN), ("valid", judgments.valid_BN)):
        if flags.dtype != torch.bool:
            raise ValueError(f"{name} of {flags.dtype} must be torch.bool; pass {name} > 0")
    tensors = (
        *((f"scores of stage {stage}", scores) for stage, scores in enumerate(stage_scores)),
        ("grades", judgments.grades_BN), ("depth", judgments.depth_BN),
        ("relevant", judgments.relevant_BN),
    )  # fmt: skip
    for name, tensor in tensors:
        if tensor.shape != shape:
            raise ValueError(
                f"{name} of shape {list(tensor.shape)} must have the shape {list(shape)} of valid; "
                "score and judge the same candidates"
            )
    for stage, scores in enumerate(stage_scores):
        if not scores.is_floating_point():
            raise ValueError(
                f"scores of stage {stage} of {scores.dtype} must be floating point; pass .float()"
            )
    weights = judgments.weights_B
    if weights is not None and weights.shape != shape[:1]:
        raise ValueError(
            f"weights of shape {list(weights.shape)} must be [{shape[0]}], one a request"
        )
