"""What holds for every loss of a cascade: padding, order, weights, extremes, errors."""

import re

import pytest
import torch
from torch import Tensor

from tests.training.losses.cases import NAMES, TRUTH, Case, leaves, loss_of, random_case
from training.losses import Judgments, Loss, LossConfig, cascade_loss
from training.losses.config import LossName

each = pytest.mark.parametrize("name", NAMES)


def value_and_gradients(
    name: LossName, case: Case, tau: float = 0.7, *, autocast: bool = False
) -> tuple[Tensor, list[Tensor]]:
    scores = leaves(case.scores)
    loss = loss_of(name, len(scores), tau=tau).to(torch.promote_types(scores[0].dtype, torch.float))
    # Under autocast as it is meant: for what is made, not for its gradient.
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = loss(scores, case.judgments).total
    return value.detach(), list(torch.autograd.grad(value, scores))


def reindexed(case: Case, index: Tensor) -> Case:
    """Candidates in another order, or without some."""
    grades, depth, relevant, valid, weights = case.judgments
    judgments = (grades[:, index], depth[:, index], relevant[:, index], valid[:, index])
    return Case([x[:, index] for x in case.scores], Judgments(*judgments, weights))


@each
def test_what_is_in_the_padding_has_no_influence(name: LossName) -> None:
    case = random_case(3)
    padding = ~case.judgments.valid_BN
    expected = value_and_gradients(name, case)
    for junk in (float("nan"), float("inf"), -1e30):
        dirty = Case(
            [x.masked_fill(padding, junk) for x in case.scores],
            Judgments(
                case.judgments.grades_BN.masked_fill(padding, 99),
                case.judgments.depth_BN.masked_fill(padding, 5),
                case.judgments.relevant_BN | padding,
                *case.judgments[3:],
            ),
        )
        torch.testing.assert_close(value_and_gradients(name, dirty), expected, rtol=0, atol=0)
    assert all(slope[padding].count_nonzero() == 0 for slope in expected[1])


@each
def test_appended_padding_and_the_order_of_candidates_do_not_matter(name: LossName) -> None:
    case = random_case(2)
    value, gradients = value_and_gradients(name, case)
    order = torch.tensor([3, 0, 7, 5, 1, 6, 2, 4])
    wide = reindexed(case, torch.cat((order, torch.tensor([0, 1, 2]))))
    wide.judgments.valid_BN[:, 8:] = False
    other, moved = value_and_gradients(name, wide)
    torch.testing.assert_close(other, value)
    torch.testing.assert_close([slope[:, :8] for slope in moved], [x[:, order] for x in gradients])


@each
def test_stages_may_keep_more_than_there_are_candidates(name: LossName) -> None:
    case = random_case(3)
    few = reindexed(case, torch.arange(4))
    case.judgments.valid_BN[:, 4:] = False
    value, gradients = value_and_gradients(name, case)
    expected, slopes = value_and_gradients(name, few)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close([slope[:, :4] for slope in gradients], slopes)


@each
def test_a_request_without_weight_is_as_if_it_were_not_there(name: LossName) -> None:
    case, some = random_case(2), slice(0, 3)
    weights = torch.where(torch.arange(7) < 3, 2.0, 0.0).double()
    value, gradients = value_and_gradients(
        name, case._replace(judgments=case.judgments._replace(weights_B=weights))
    )
    grades, depth, relevant, valid, _ = case.judgments
    alone = Judgments(grades[some], depth[some], relevant[some], valid[some])
    expected, slopes = value_and_gradients(name, Case([x[some] for x in case.scores], alone))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close([slope[some] for slope in gradients], slopes)
    assert all(slope[3:].count_nonzero() == 0 for slope in gradients)


@each
def test_nothing_costs_nothing(name: LossName) -> None:
    case = random_case(2)
    nothing = case.judgments._replace(valid_BN=torch.zeros_like(case.judgments.valid_BN))
    value, gradients = value_and_gradients(name, case._replace(judgments=nothing))
    assert value.item() == 0.0
    assert all(slope.count_nonzero() == 0 for slope in gradients)


@each
def test_the_right_order_costs_least_and_a_lost_candidate_is_pulled_back(name: LossName) -> None:
    # Falling grades, all stages right; then one of the truth falls to the end of one stage.
    n = 8
    judgments = Judgments(
        torch.arange(n, 0, -1).expand(1, n),
        torch.tensor([[4, 4, 3, 3, 2, 2, 1, 1]]),
        (torch.arange(n) < TRUTH).expand(1, n),
        torch.ones(1, n, dtype=torch.bool),
    )
    right = torch.linspace(3, -4, n, dtype=torch.float64).expand(1, n)
    best, _ = value_and_gradients(name, Case([right, right], judgments), tau=0.01)
    for stage in range(2):
        for lost in range(TRUTH):
            scores = [right.clone(), right.clone()]
            scores[stage][0, lost] = -6.0
            value, gradients = value_and_gradients(name, Case(scores, judgments), tau=0.01)
            assert value > best
            assert gradients[stage][0, lost] <= 1e-12


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_scores_and_half_precision(name: LossName, dtype: torch.dtype) -> None:
    case = random_case(3)
    case = case._replace(scores=[(1e4 * x.sign()).to(dtype) for x in case.scores])
    case.scores[0][:, ::2] /= 1e4
    value, gradients = value_and_gradients(name, case)
    assert value.dtype == torch.float32
    assert value.isfinite()
    for slope in gradients:
        assert slope.dtype == dtype
        assert slope.isfinite().all()


@each
def test_autocast_changes_nothing(name: LossName) -> None:
    case = random_case(2)
    case = case._replace(scores=[x.float() for x in case.scores])
    expected = value_and_gradients(name, case)
    under = value_and_gradients(name, case, autocast=True)
    torch.testing.assert_close(under, expected, rtol=0, atol=0)


def test_an_unknown_name_lists_the_known_ones() -> None:
    config = LossConfig.model_construct(name="lambdaloss")
    message = "loss == 'lambdaloss' must be one of: bce, icc, rankflow, fs_ranknet, fs_lambdaloss, "
    with pytest.raises(ValueError, match=f"{message}.*; did you mean 'fs_lambdaloss'"):
        cascade_loss(config, (2, 1), 1, (0, 3))


@pytest.mark.parametrize(
    ("keeps", "truth", "entry_depths", "message"),
    [
        ((5,), 1, (0,), r"keeps \[5\] must be those of 2 or 3 stages; give one a stage"),
        ((5, 2), 1, (0,), r"entry_depths \[0\] must be one for each of 2 stages"),
        ((5, 0), 1, (0, 3), "keep == 0 must be at least 1 candidate; raise it"),
        ((5, 2), 0, (0, 3), "truth == 0 must be at least 1 candidate; raise it"),
    ],
)
def test_a_wrong_cascade_is_named(
    keeps: tuple[int, ...], truth: int, entry_depths: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cascade_loss(LossConfig(), keeps, truth, entry_depths)


FLAT = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("scores", "change", "message"),
    [
        ([FLAT], {}, "scores of 1 stages given, 2 were announced"),
        ([FLAT, FLAT.long()], {}, "scores of stage 1 of torch.int64 must be floating point"),
        (
            [FLAT, FLAT[:, :2]], {},
            "scores of stage 1 of shape [2, 2] must have the shape [2, 3] of valid; "
            "score and judge the same candidates",
        ),
        ([FLAT] * 2, {"valid_BN": FLAT}, "valid of torch.float32 must be torch.bool"),
        ([FLAT] * 2, {"relevant_BN": FLAT}, "relevant of torch.float32 must be torch.bool"),
        ([FLAT] * 2, {"valid_BN": FLAT[0].bool()}, "valid of shape [3] must be [B, N]"),
        ([FLAT] * 2, {"grades_BN": FLAT[:1]}, "grades of shape [1, 3] must have the shape [2, 3]"),
        ([FLAT] * 2, {"depth_BN": FLAT[:1]}, "depth of shape [1, 3] must have the shape [2, 3]"),
        ([FLAT] * 2, {"weights_B": FLAT}, "weights of shape [2, 3] must be [2], one a request"),
    ],
)  # fmt: skip
def test_wrong_tensors_are_named(
    scores: list[Tensor], change: dict[str, Tensor], message: str
) -> None:
    judgments = Judgments(FLAT, FLAT.long(), FLAT.bool(), FLAT.bool())._replace(**change)
    with pytest.raises(ValueError, match=re.escape(message)):
        cascade_loss(LossConfig(), (2, 1), 1, (0, 3))(scores, judgments)


def test_weights_of_uncertainty_are_learned_with_the_scores() -> None:
    loss = cascade_loss(LossConfig(name="lcron"), (5, 3), TRUTH, (0, 3))
    case = random_case(2)
    result: Loss = loss(case.scores, case.judgments)
    (slope,) = torch.autograd.grad(result.total, list(loss.parameters()))
    singles = torch.stack([result.parts["stage_0"], result.parts["stage_1"]])
    torch.testing.assert_close(slope.double(), 0.5 - 0.5 * singles, rtol=1e-5, atol=0)
