"""Losses through the operator: numbers by hand, padding, bypasses, edges, wrong arguments."""

from math import exp, log

import pytest
import torch

from operators import dftopk_logits, joint_cross_entropy, topk_cross_entropy
from tests.operators.tensors import gradients, pair, random_mask, random_stages

NAN = float("nan")
INF = float("inf")


# One stage


def test_one_stage_by_hand() -> None:
    scores = torch.tensor([[4.0, 2.0, 0.0]], dtype=torch.float64)  # threshold 3: logits 1, -1, -3
    loss = topk_cross_entropy(scores, torch.tensor([[True, False, False]]), 1)
    expected = (log(1 + exp(-1)) + log(1 + exp(-1)) + log(1 + exp(-3))) / 3
    assert loss.item() == pytest.approx(expected, rel=1e-14)


def test_tau_divides_the_logits() -> None:
    scores, labels = random_stages(1, 3, 6)[0], random_mask(3, 6, share=0.3)
    torch.testing.assert_close(
        topk_cross_entropy(scores, labels, 2, tau=4.0), topk_cross_entropy(scores / 4, labels, 2)
    )


def test_rows_that_no_score_can_change_are_left_out() -> None:
    scores, labels = random_stages(1, 5, 4)[0], random_mask(5, 4, share=0.4)
    k_B = torch.tensor([0, 4, 2, -1, 9])
    leaf = scores.clone().requires_grad_()
    loss = topk_cross_entropy(leaf, labels, k_B)
    torch.testing.assert_close(loss, topk_cross_entropy(scores[2:3], labels[2:3], 2))
    (gradient,) = gradients(loss, [leaf])
    assert torch.count_nonzero(gradient[[0, 1, 3, 4]]) == 0


def test_nothing_to_learn_from_is_a_loss_of_zero() -> None:
    scores = torch.zeros(2, 3, requires_grad=True)
    loss = topk_cross_entropy(scores, torch.zeros(2, 3, dtype=torch.bool), 3)
    assert loss.item() == 0.0
    assert torch.count_nonzero(gradients(loss, [scores])[0]) == 0


@pytest.mark.parametrize("filler", [0.0, 1e9, -1e9, float("inf"), NAN])
def test_padding_never_changes_the_loss_or_its_gradient(filler: float) -> None:
    stages, labels = random_stages(2, 3, 5), random_mask(3, 5, share=0.4)
    bare = [s.clone().requires_grad_() for s in stages]
    expected = joint_cross_entropy(bare, labels, [3, 2])
    padding = torch.full((3, 4), filler, dtype=torch.float64)
    padded = [torch.cat([s, padding], 1).requires_grad_() for s in stages]
    mask = torch.arange(9).expand(3, 9) < 5
    loss = joint_cross_entropy(
        padded, torch.cat([labels, torch.ones(3, 4, dtype=torch.bool)], 1), [3, 2], mask=mask
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-14)
    for mine, theirs in zip(gradients(loss, padded), gradients(expected, bare), strict=True):
        torch.testing.assert_close(mine[:, :5], theirs)
        assert torch.count_nonzero(mine[:, 5:]) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    scores = random_stages(1, 4, 20)[0].to(dtype).requires_grad_()
    labels = random_mask(4, 20, share=0.3)
    loss = topk_cross_entropy(scores, labels, 5, tau=0.01)
    assert loss.dtype == torch.float32
    assert loss.item() == topk_cross_entropy(scores.float(), labels, 5, tau=0.01).item()
    assert gradients(loss, [scores])[0].dtype == dtype


# A cascade


def test_two_stages_by_hand() -> None:
    first, second = pair(1.5), pair(-0.5)
    labels = torch.tensor([[True, False]])
    survives = (1 / (1 + exp(-1.5))) * (1 / (1 + exp(0.5)))
    other = (1 / (1 + exp(1.5))) * (1 / (1 + exp(-0.5)))
    loss = joint_cross_entropy([first, second], labels, [1, 1])
    assert loss.item() == pytest.approx((-log(survives) - log(1 - other)) / 2, rel=1e-14)


def test_equals_the_product_of_sigmoids_where_that_is_safe() -> None:
    stages, labels = random_stages(3, 8, 10), random_mask(8, 10, share=0.3)
    ks = [6, 4, 2]
    survival = torch.ones(8, 10, dtype=torch.float64)
    for scores, k in zip(stages, ks, strict=True):
        survival = survival * dftopk_logits(scores, k).sigmoid()
    expected = torch.nn.functional.binary_cross_entropy(survival, labels.double())
    torch.testing.assert_close(joint_cross_entropy(stages, labels, ks), expected)


def test_a_bypassed_stage_has_factor_one() -> None:
    stages, labels = random_stages(2, 1, 4), torch.tensor([[True, False, False, True]])
    bypass = torch.tensor([[False, True, False, True]])
    first, second = (dftopk_logits(s, 2).sigmoid() for s in stages)
    survival = torch.where(bypass, 1.0, first) * second
    expected = torch.nn.functional.binary_cross_entropy(survival, labels.double())
    loss = joint_cross_entropy(stages, labels, [2, 2], passes=[bypass, None])
    torch.testing.assert_close(loss, expected)
    # The same in the other order: the first stage an entry meets may be any.
    swapped = joint_cross_entropy(stages[::-1], labels, [2, 2], passes=[None, bypass])
    torch.testing.assert_close(swapped, expected)


def test_an_entry_may_bypass_a_stage_it_does_not_compete_in() -> None:
    stages, labels = random_stages(2, 1, 4), torch.tensor([[True, False, False, True]])
    competes = torch.tensor([[True, True, True, False]])
    first = dftopk_logits(stages[0], 2, mask=competes).sigmoid()
    survival = torch.where(competes, first, 1.0) * dftopk_logits(stages[1], 2).sigmoid()
    expected = torch.nn.functional.binary_cross_entropy(survival, labels.double())
    masks = [competes, None]
    loss = joint_cross_entropy(stages, labels, [2, 2], mask=masks, passes=[~competes, None])
    torch.testing.assert_close(loss, expected)
    without = joint_cross_entropy(stages, labels, [2, 2], mask=masks)
    expected = torch.nn.functional.binary_cross_entropy(survival[:, :3], labels[:, :3].double())
    torch.testing.assert_close(without, expected)


def test_an_entry_that_no_stage_decides_is_left_out() -> None:
    stages, labels = random_stages(2, 1, 4), torch.tensor([[True, False, False, True]])
    everywhere = torch.tensor([[False, False, False, True]])
    survival = dftopk_logits(stages[0], 2).sigmoid() * dftopk_logits(stages[1], 2).sigmoid()
    expected = torch.nn.functional.binary_cross_entropy(survival[:, :3], labels[:, :3].double())
    loss = joint_cross_entropy(stages, labels, [2, 2], passes=[everywhere, everywhere])
    torch.testing.assert_close(loss, expected)


def test_a_stage_that_passes_everyone_leaves_the_other_to_decide() -> None:
    stages, labels = random_stages(2, 3, 4), random_mask(3, 4, share=0.4)
    alone = topk_cross_entropy(stages[1], labels, 2)
    torch.testing.assert_close(joint_cross_entropy(stages, labels, [4, 2]), alone)
    torch.testing.assert_close(joint_cross_entropy(stages[::-1], labels, [2, 4]), alone)
    assert joint_cross_entropy(stages, labels, [0, 2]).item() == 0.0


def test_leading_dimensions_are_rows() -> None:
    stages, labels = random_stages(2, 2, 3, 5), random_mask(2, 3, 5, share=0.4)
    mask, k = random_mask(2, 3, 5, share=0.8, seed=5), torch.tensor([[1, 2, 3], [0, 1, 9]])
    weights = torch.arange(6.0).reshape(2, 3)
    deep = joint_cross_entropy(stages, labels, [k, 2], mask=mask, weights=weights)
    flat = [s.reshape(6, 5) for s in stages]
    shallow = joint_cross_entropy(
        flat,
        labels.reshape(6, 5),
        [k.flatten(), 2],
        mask=mask.reshape(6, 5),
        weights=weights.flatten(),
    )
    torch.testing.assert_close(deep, shallow)
    row = joint_cross_entropy([s[0, 1] for s in stages], labels[0, 1], [2, 1])
    assert row.shape == ()
    torch.testing.assert_close(
        row, joint_cross_entropy([s[0, 1:2] for s in stages], labels[0, 1:2], [2, 1])
    )
    weighed = topk_cross_entropy(stages[0][0, 0], labels[0, 0], 2, weights=torch.tensor(3.0))
    torch.testing.assert_close(weighed, topk_cross_entropy(stages[0][0, 0], labels[0, 0], 2))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,), (1,)])
def test_nothing_to_compare_is_a_loss_of_zero(shape: tuple[int, ...]) -> None:
    scores = torch.zeros(shape, requires_grad=True)
    loss = topk_cross_entropy(scores, torch.zeros(shape, dtype=torch.bool), 1)
    assert loss.item() == 0.0
    assert not gradients(loss, [scores])[0].any()


def test_infinite_scores_are_left_out_with_those_they_decide() -> None:
    rows = [
        [INF, 2.0, 1.0, 0.0, -INF],  # one place is left for three
        [INF, INF, 1.0, 0.0, -INF],  # none is
        [3.0, 1.0, -INF, -INF, -INF],  # both finite entries have a place
    ]
    scores = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    other = random_stages(1, 3, 5)[0].requires_grad_()
    for labels in (torch.ones(3, 5, dtype=torch.bool), torch.zeros(3, 5, dtype=torch.bool)):
        alone = topk_cross_entropy(torch.tensor([2.0, 1.0, 0.0]).double(), labels[0, :3], 1)
        loss = topk_cross_entropy(scores, labels, 2)
        torch.testing.assert_close(loss, alone)
        (gradient,) = gradients(loss, [scores])
        assert gradient.ne(0).tolist() == [[False, True, True, True, False], *[[False] * 5] * 2]
        # What one stage passes is decided by the other; what it drops is left out.
        factor = dftopk_logits(scores.detach(), 2).sigmoid()
        survival = (factor * dftopk_logits(other, 3).sigmoid()).detach()
        counted = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
        expected = torch.nn.functional.binary_cross_entropy(
            survival[counted], labels[counted].double()
        )
        joint = joint_cross_entropy([scores, other], labels, [2, 3])
        torch.testing.assert_close(joint.detach(), expected)
        assert all(g.isfinite().all() for g in gradients(joint, [scores, other]))


@pytest.mark.parametrize("row", [[NAN, 1.0, 0.0], [NAN, 1.0, -INF], [NAN, INF, 0.0]])
def test_nan_in_an_undecided_row_reaches_the_loss(row: list[float]) -> None:
    scores, labels = torch.tensor([row, [2.0, 1.0, 0.0]]), torch.ones(2, 3, dtype=torch.bool)
    for k in (1, 2):
        assert topk_cross_entropy(scores, labels, k).isnan()
    assert topk_cross_entropy(scores, labels, torch.tensor([3, 1])).isfinite()


def test_logits_beyond_the_largest_number_are_cut() -> None:
    scores = torch.tensor([3e37, 1e37, -3e37], requires_grad=True)
    labels = torch.tensor([0.0, 0.5, 1.0])
    loss = topk_cross_entropy(scores, labels, 1, tau=1e-3)
    assert loss.item() == pytest.approx((1e30 + 0.5e30 + 1e30) / 3)
    assert gradients(loss, [scores])[0].isfinite().all()
    twice = joint_cross_entropy([scores, scores], labels, [1, 1], tau=1e-3)
    assert twice.isfinite()
    assert gradients(twice, [scores])[0].isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stage_scores": []}, r"0 stages given and there must be at least 1; pass \[scores\]"),
        (
            {"stage_scores": [torch.ones(2, 3), torch.ones(2, 4)]},
            r"scores of shape \[2, 4\] in stage 1 must have the labels' shape \[2, 3\]; score the",
        ),
        (
            {"stage_scores": [torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int64)]},
            r"scores of torch.int64 must be floating point; pass scores.float\(\)",
        ),
        ({"ks": [1]}, r"ks has 1 entries and must have one for each of 2 stages"),
        ({"mask": [None]}, r"mask has 1 entries and must have one for each of 2 stages"),
        ({"passes": [None] * 3}, r"passes has 3 entries and must have one for each of 2 stages"),
        (
            {"passes": [torch.ones(2, 3), None]},
            r"passes of torch.float32 must be torch.bool; pass passes.bool\(\)",
        ),
        (
            {"passes": [None, torch.ones(3, dtype=torch.bool)]},
            r"passes of shape \[3\] must have the scores' shape \[2, 3\]; pass passes.expand_as",
        ),
        ({"operator": "sort"}, r"operator == 'sort' must be one of: d"),
        ({"operator": "hard_topk"}, r"operator == 'hard_topk' has no gradient and must not be tra"),
        ({"tau": 0.0}, r"tau == 0.0 must be finite and above 0"),
    ],
)
def test_wrong_joint_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    given: dict[str, object] = {
        "stage_scores": [torch.ones(2, 3)] * 2,
        "labels": torch.ones(2, 3, dtype=torch.bool),
        "ks": [2, 1],
        **arguments,
    }
    with pytest.raises(ValueError, match=message):
        joint_cross_entropy(**given)  # type: ignore[arg-type]
