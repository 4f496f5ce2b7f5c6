"""The objective, against plain formulas over Python numbers, and what shall give no gradient.

A request is written as the kinds of its candidates for ranking:

    B  bought, recalled     H  bought, of the history     L  bought, lost by retrieval
    r  recalled             p  past                       .  padding

Retrieval meets what was bought, and three random items.
"""

from itertools import product
from math import exp, log1p
from typing import NamedTuple, get_args

import pytest
import torch
from torch import Tensor

from training.config import CandidateConfig, RetrievalConfig, TrainConfig
from training.data.sampling import CandidateList, Candidates
from training.losses.cascade import cascade_loss
from training.losses.conditional import conditional_cross_entropy
from training.losses.config import LossConfig, LossName
from training.losses.judgments import Loss
from training.objective import Objective, judged, shared_keeps

ITEMS = 50
KEEP = 5
RANDOM = 3
TAU = 0.7
REQUESTS = [
    "BHLpprr",
    "BBHHLLpr",
    "LLpprr",  # nothing that was bought reaches ranking
    "HHppr",  # nothing bought is new
    "BH",  # all that reaches ranking was bought
    "pprr",  # nothing was bought
    "L",  # nothing reaches ranking
    "",
    "B" * 19 + "HHLLL" + "rrrpp",  # more was bought than is answered
]
NAMES = ("bce", "conditional", "dftopk")
SHARED = CandidateConfig(shared=True)


class Batch(NamedTuple):
    """Scores, kinds and candidates of requests."""

    catalogue_BI: Tensor
    rank_BN: Tensor
    kinds: list[str]
    candidates: Candidates


def batch(requests: list[str], seed: int = 0, scale: float = 1.0) -> Batch:
    """Requests with random scores and rates, over items in random order."""
    draw = torch.Generator().manual_seed(seed)
    size = max(map(len, requests))
    kinds = [request.ljust(size, ".") for request in requests]

    def noise(columns: int) -> Tensor:
        return torch.randn(len(kinds), columns, generator=draw, dtype=torch.float64)

    def where(some: str) -> Tensor:
        return torch.tensor([[kind in some for kind in request] for request in kinds])

    order = noise(ITEMS).argsort(1) + 1
    rows = order[:, :size] * where("BHLrp")
    bought = where("BHL")
    rank = CandidateList(rows, bought, where("BHrp"), noise(size))
    # The columns of ranking's bought items, then random ones.
    most = int(bought.sum(1).max())
    rows = torch.cat([(rows * bought)[:, :most], order[:, size : size + RANDOM]], dim=1)
    labels = torch.cat([bought[:, :most], torch.zeros(len(kinds), RANDOM, dtype=torch.bool)], dim=1)
    new = torch.cat(
        [where("BL")[:, :most], torch.ones(len(kinds), RANDOM, dtype=torch.bool)], dim=1
    )
    retrieval = CandidateList(rows, labels, new, noise(most + RANDOM))
    return Batch(
        catalogue_BI=(scale * noise(ITEMS)).requires_grad_(),
        rank_BN=(scale * noise(size)).requires_grad_(),
        kinds=kinds,
        candidates=Candidates(retrieval, rank, where("Hp")),
    )


def loss_of(name: LossName, given: Batch, keep: int = KEEP) -> Loss:
    config = TrainConfig(
        name="tiny",
        loss=LossConfig(name=name, tau=TAU),
        joint_weight=0.4,
        candidates=CandidateConfig(),
        retrieval=RetrievalConfig(keep=keep),
    )
    loss: Loss = Objective(config)(given.catalogue_BI, given.rank_BN, given.candidates)
    return loss


def sigmoid(logit: float) -> float:
    return 1 / (1 + exp(-logit))


def cross_entropy(probability: float, label: bool) -> float:
    return -log1p(probability - 1) if label else -log1p(-probability)


def threshold(scores: list[float], k: int) -> float:
    ranked = sorted(scores, reverse=True)
    return (ranked[k - 1] + ranked[k]) / 2


def weight(kinds: str) -> float:
    return 1 / min(20, max(1, sum(kind in "BHL" for kind in kinds)))


def mean(terms: list[tuple[float, float]]) -> float:
    """Weighted mean of (weight, value)."""
    return sum(w * value for w, value in terms) / sum(w for w, _ in terms)


def plain_pointwise(given: Batch, met: CandidateList, scores: list[list[float]]) -> float:
    terms = []
    for b, n in product(*map(range, met.rows_BN.shape)):
        if met.competes_BN[b, n]:
            probability = sigmoid(scores[b][n] - met.log_rate_BN[b, n].item())
            label = bool(met.labels_BN[b, n])
            terms.append((weight(given.kinds[b]), cross_entropy(probability, label)))
    return mean(terms)


def plain_retrieval(given: Batch) -> float:
    met = given.candidates.retrieval
    scores = [
        [line[row - 1] for row in rows]
        for line, rows in zip(given.catalogue_BI.tolist(), met.rows_BN.tolist(), strict=True)
    ]
    return plain_pointwise(given, met, scores)


def plain_joint(given: Batch) -> tuple[float, float]:
    """The terms of ranking and of survival."""
    rank_terms, joint_terms = [], []
    corrected = (given.rank_BN - given.candidates.rank.log_rate_BN).tolist()
    rows_BN = given.candidates.rank.rows_BN.tolist()
    for b, kinds in enumerate(given.kinds):
        catalogue = given.catalogue_BI[b].tolist()
        cut = threshold(catalogue, KEEP)
        competing = [s for kind, s in zip(kinds, corrected[b], strict=True) if kind in "BHrp"]
        places = sum(kind in "BH" for kind in kinds)
        ranks = 0 < places < len(competing)
        for kind, row, score in zip(kinds, rows_BN[b], corrected[b], strict=True):
            recall = 1.0 if kind in "Hp" else sigmoid((catalogue[row - 1] - cut) / TAU)
            if ranks and kind in "BHrp":
                place = sigmoid((score - threshold(competing, places)) / TAU)
                entry = weight(kinds), cross_entropy(place, kind in "BH")
                rank_terms.append(entry)
                joint_terms.append((entry[0], cross_entropy(recall * place, kind in "BH")))
            elif kind == "L":
                joint_terms.append((weight(kinds), cross_entropy(recall, True)))
    return mean(rank_terms), mean(joint_terms)


def gradients(value: Tensor, given: Batch) -> tuple[Tensor, Tensor]:
    """Gradients of a scalar for the catalogue and for ranking."""
    catalogue, rank = torch.autograd.grad(
        value, [given.catalogue_BI, given.rank_BN], retain_graph=True, materialize_grads=True
    )
    return catalogue, rank


def columns(given: Batch, some: str) -> Tensor:
    return torch.tensor([[kind in some for kind in kinds] for kinds in given.kinds])


@pytest.mark.parametrize("seed", range(3))
def test_bce_by_plain_formulas(seed: int) -> None:
    given = batch(REQUESTS, seed)
    loss = loss_of("bce", given)
    parts = {name: value.item() for name, value in loss.parts.items()}
    rank = plain_pointwise(given, given.candidates.rank, given.rank_BN.tolist())
    assert parts == pytest.approx({"retrieval": plain_retrieval(given), "rank": rank}, rel=1e-12)
    assert loss.total.item() == pytest.approx(plain_retrieval(given) + rank, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_conditional_of_each_list_by_its_own_formula(seed: int) -> None:
    given = batch(REQUESTS, seed)
    loss = loss_of("conditional", given)
    met, ranked = given.candidates.retrieval, given.candidates.rank
    weights_B = torch.tensor([weight(kinds) for kinds in given.kinds], dtype=torch.float64)
    at_rows_BN = given.catalogue_BI.gather(1, (met.rows_BN - 1).clamp(min=0))
    expected = {
        name: conditional_cross_entropy(
            scores_BN - list_.log_rate_BN, list_.labels_BN, list_.competes_BN, weights_B, TAU
        )
        for name, list_, scores_BN in (
            ("retrieval", met, at_rows_BN),
            ("rank", ranked, given.rank_BN),
        )
    }
    torch.testing.assert_close(loss.parts, expected)
    torch.testing.assert_close(loss.total, expected["retrieval"] + expected["rank"])


@pytest.mark.parametrize("seed", range(3))
def test_dftopk_by_plain_formulas(seed: int) -> None:
    given = batch(REQUESTS, seed)
    loss = loss_of("dftopk", given)
    parts = {name: value.item() for name, value in loss.parts.items()}
    retrieval, (rank, joint) = plain_retrieval(given), plain_joint(given)
    expected = {"retrieval": retrieval, "rank": rank, "joint": joint}
    assert parts == pytest.approx(expected, rel=1e-12)
    assert loss.total.item() == pytest.approx(retrieval + rank + 0.4 * joint, rel=1e-12)


def test_survival_moves_retrieval_for_what_was_bought_new_alone() -> None:
    """The gradient is the one of the plain formula, with `r` held and spread by the threshold."""
    given = batch(["BHLpprr", "LLpprr", "Hppr", "pprr"])
    found, _ = gradients(loss_of("dftopk", given).parts["joint"], given)
    total = 0.0
    expected = torch.zeros_like(found)
    for b, kinds in enumerate(given.kinds):
        ranks = "B" in kinds or "H" in kinds
        total += weight(kinds) * sum(kind in ("BHLrp" if ranks else "L") for kind in kinds)
        scores = given.catalogue_BI[b].tolist()
        boundary = given.catalogue_BI[b].topk(KEEP + 1).indices[-2:]
        for kind, row in zip(kinds, given.candidates.rank.rows_BN[b].tolist(), strict=True):
            if kind in "BL":
                survives = sigmoid((scores[row - 1] - threshold(scores, KEEP)) / TAU)
                slope = -weight(kinds) * (1 - survives) / TAU
                expected[b, row - 1] += slope
                expected[b, boundary] -= slope / 2
    torch.testing.assert_close(found, expected / total)
    assert not found[2:].any()


def test_retrievals_part_in_what_was_not_bought_counts_but_is_given() -> None:
    given = batch(["Hrr"])
    joint = loss_of("dftopk", given).parts["joint"]
    assert not gradients(joint, given)[0].any()
    (row, *_) = given.candidates.rank.rows_BN[0, 1:].tolist()
    catalogue = given.catalogue_BI.detach().clone()
    catalogue[0, row - 1] += 20.0
    assert loss_of("dftopk", given._replace(catalogue_BI=catalogue)).parts["joint"] > joint


def test_the_history_bypasses_retrieval() -> None:
    given = batch(["HHBppr", "HHHpr"])
    past = torch.where(columns(given, "Hp"), given.candidates.rank.rows_BN, 0)
    first, second = (  # below the cut, which stays where it is
        loss_of("dftopk", given._replace(catalogue_BI=lowered)).parts
        for lowered in (
            torch.nn.functional.pad(given.catalogue_BI, (1, 0)).scatter(1, past, low)[:, 1:]
            for low in (-20.0, -90.0)
        )
    )
    torch.testing.assert_close(second, first)


@pytest.mark.parametrize("name", NAMES)
def test_ranking_learns_nothing_of_what_does_not_reach_it(name: LossName) -> None:
    given = batch(REQUESTS)
    _, found = gradients(loss_of(name, given).total, given)
    absent = columns(given, "L.")
    assert not found[absent].any()
    learning = [0, 1, 2, 3, 4, 5, 8] if name == "bce" else [0, 1, 3, 8]
    assert found.any(1).nonzero().flatten().tolist() == learning
    rank_BN = torch.where(absent, 1e4, given.rank_BN)
    torch.testing.assert_close(
        loss_of(name, given._replace(rank_BN=rank_BN)), loss_of(name, given), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_sampling_took_is_given_back(name: LossName) -> None:
    """Scores that rise with the rates leave every term as it was, but survival's cut."""
    given = batch(REQUESTS)
    met = given.candidates
    added_BI, added_BN = torch.randn(len(REQUESTS), ITEMS), torch.randn(given.rank_BN.shape)
    at_rows = added_BI.gather(1, (met.retrieval.rows_BN - 1).clamp(min=0))
    shifted = met._replace(
        retrieval=met.retrieval._replace(log_rate_BN=met.retrieval.log_rate_BN + at_rows),
        rank=met.rank._replace(log_rate_BN=met.rank.log_rate_BN + added_BN),
    )
    before = loss_of(name, given).parts
    ranked = given._replace(rank_BN=given.rank_BN + added_BN, candidates=shifted)
    after = loss_of(name, ranked).parts
    assert after.pop("retrieval") != before["retrieval"]
    for term, value in after.items():
        torch.testing.assert_close(value, before[term], msg=term)
    both = loss_of(name, ranked._replace(catalogue_BI=given.catalogue_BI + added_BI)).parts
    torch.testing.assert_close(both["retrieval"], before["retrieval"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("request_", ["...", "L..", "BH.", "prr"])
def test_a_batch_with_little_to_learn_from(name: LossName, request_: str) -> None:
    given = batch([request_])
    loss = loss_of(name, given)
    catalogue, rank = gradients(loss.total, given)
    assert loss.total.isfinite()
    assert catalogue.isfinite().all()
    assert rank.isfinite().all()
    if name == "dftopk":
        assert loss.parts["rank"] == 0
        assert not rank.any()
        assert bool(loss.parts["joint"] > 0) == ("L" in request_)


def test_where_retrieval_keeps_everything_survival_is_rankings_alone() -> None:
    given = batch(["BHpprr", "BBprr"])
    for keep in (ITEMS, ITEMS + 9):
        loss = loss_of("dftopk", given, keep)
        torch.testing.assert_close(loss.parts["joint"], loss.parts["rank"])
        assert not gradients(loss.parts["joint"], given)[0].any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_scores_have_finite_gradients(name: LossName, dtype: torch.dtype) -> None:
    given = batch(REQUESTS, scale=1e4)
    given = given._replace(
        catalogue_BI=given.catalogue_BI.detach().to(dtype).requires_grad_(),
        rank_BN=given.rank_BN.detach().to(dtype).requires_grad_(),
    )
    loss = loss_of(name, given)
    assert loss.total.isfinite()
    for gradient in gradients(loss.total, given):
        assert gradient.isfinite().all()
        assert gradient.any()


@pytest.mark.parametrize("name", NAMES)
def test_descent_puts_what_was_bought_on_top(name: LossName) -> None:
    given = batch(["BHLpprr"] * 4)
    optimizer = torch.optim.Adam([given.catalogue_BI, given.rank_BN], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss_of(name, given).total.backward()
        optimizer.step()
    ranked = given.rank_BN - given.candidates.rank.log_rate_BN
    ranked = ranked.masked_fill(~given.candidates.rank.competes_BN, -torch.inf)
    assert ranked.topk(2).indices.sort(1).values.tolist() == [[0, 1]] * 4
    met = given.candidates.retrieval
    recalled = given.catalogue_BI.gather(1, (met.rows_BN - 1).clamp(min=0)) - met.log_rate_BN
    recalled = recalled.masked_fill(~met.competes_BN, -torch.inf)
    assert recalled.topk(2).indices.sort(1).values.tolist() == [[0, 2]] * 4


def shared(given: Batch) -> Candidates:
    """The candidates of `given` where the list of ranking is the one of both stages."""
    return given.candidates._replace(retrieval=given.candidates.rank)


def test_what_is_judged_of_a_shared_list() -> None:
    judgments = judged(batch(["BHLpr."]).candidates.rank, torch.tensor([0.5]))
    assert judgments.depth_BN.tolist() == [[2, 2, 2, 1, 1, 0]]
    assert judgments.grades_BN.tolist() == [[1, 1, 1, 0, 0, 0]]
    assert judgments.relevant_BN.tolist() == [[True] * 3 + [False] * 3]
    assert judgments.valid_BN.tolist() == [[True] * 5 + [False]]
    assert judgments.weights_B.tolist() == [0.5]  # type: ignore[union-attr]


def test_a_shared_list_is_kept_in_the_shares_of_serving() -> None:
    assert shared_keeps(CandidateConfig()) == (124, 20)
    few = CandidateConfig(positives=1, history_negatives=0, recalled_negatives=2)
    assert shared_keeps(few) == (21, 20)


@pytest.mark.parametrize("name", get_args(LossName))
def test_every_loss_by_its_name_on_a_shared_list(name: LossName) -> None:
    """It is the published one: over the scores as they are, of what is in the list alone."""
    given = batch(["BHL" + "pr" * 12, "BBL" + "prr" * 9, "ppr" * 9], scale=0.1)
    candidates = shared(given)
    config = TrainConfig(name="tiny", loss=LossConfig(name=name), candidates=SHARED)
    torch.manual_seed(0)
    objective = Objective(config)
    loss = objective(given.catalogue_BI, given.rank_BN, candidates)
    torch.manual_seed(0)
    published = cascade_loss(config.loss, (124, 20), None, (0, 1))
    met = candidates.rank
    retrieval_BN = given.catalogue_BI.gather(1, (met.rows_BN - 1).clamp(min=0))
    weights_B = torch.tensor([1 / 3, 1 / 3, 1], dtype=torch.float64)
    expected = published([retrieval_BN, given.rank_BN], judged(met, weights_B))
    torch.testing.assert_close(loss, expected)
    found, ranks = gradients(loss.total, given)
    assert found.isfinite().all()
    assert ranks.any()
    assert not ranks[columns(given, ".")].any()
    listed = torch.zeros(3, ITEMS + 1).scatter(1, met.rows_BN, 1.0)[:, 1:]
    assert not found[listed == 0].any()
