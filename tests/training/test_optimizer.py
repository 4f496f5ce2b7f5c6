"""The row-wise optimizer against dense references that touch every row."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from training.models.sparse_embedding import SparseEmbedding
from training.optimizer import RowwiseOptimizer

VOCABULARIES, D = (50, 400), 8
R = sum(VOCABULARIES)


def embedding_of(seed: int = 0) -> SparseEmbedding:
    return SparseEmbedding(VOCABULARIES, D, torch.Generator().manual_seed(seed))


def batches(steps: int) -> list[tuple[Tensor, Tensor]]:
    """Rows and what their embeddings are multiplied with; most rows are never touched."""
    generator = torch.Generator().manual_seed(5)
    return [
        (
            torch.randint(0, 40, (30, 2), generator=generator),
            torch.randn(30, 2 * D, generator=generator),
        )
        for _ in range(steps)
    ]


def backpropagate(embedding: SparseEmbedding, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The gradient, which is left with the embedding, as a dense table."""
    (embedding(batch[0]) * batch[1]).sum().backward()
    found = embedding.gradient()
    assert found is not None
    return torch.zeros(R, D).index_add_(0, *found)


@pytest.mark.parametrize("decay", [None, 0.9, 0.999])
def test_steps_are_those_of_a_dense_reference(decay: float | None) -> None:
    embedding = embedding_of()
    weight, moment = embedding.weight_RD.double(), torch.zeros(R, dtype=torch.float64)
    count = torch.zeros(R, dtype=torch.float64)
    optimizer = RowwiseOptimizer([embedding], lr=0.1, decay=decay)
    touched = torch.zeros(R, dtype=torch.bool)
    start = embedding.weight_RD.clone()
    for step, batch in enumerate(batches(6)):
        optimizer.lr = 0.1 / (step + 1)
        optimizer.zero_grad()
        grad = backpropagate(embedding, batch).double()
        optimizer.step()
        now = grad.any(1)
        touched |= now
        square = grad.square().mean(1)
        if decay is None:
            moment += square
            scale = moment.sqrt()
        else:  # as Adam, whose moment starts at 0 and is corrected for that
            count += now
            moment = torch.where(now, decay * moment + (1 - decay) * square, moment)
            scale = (moment / (1 - decay**count).clamp(min=1e-30)).sqrt()
        weight -= torch.where(now, optimizer.lr / (scale + 1e-8), 0.0).unsqueeze(1) * grad
    torch.testing.assert_close(embedding.weight_RD.double(), weight, rtol=1e-5, atol=1e-6)
    assert 0 < touched.sum() < 80
    assert torch.equal(embedding.weight_RD[~touched], start[~touched])


def test_adagrad_of_width_one_is_torch_s() -> None:
    embedding = SparseEmbedding([9], 1, torch.Generator().manual_seed(0))
    dense = torch.nn.Parameter(embedding.weight_RD.clone())
    theirs = torch.optim.Adagrad([dense], lr=0.1, eps=1e-8)
    mine = RowwiseOptimizer([embedding], lr=0.1, eps=1e-8)
    for rows in ([1, 2, 2], [2, 5, 8], [8, 1, 1]):
        for optimizer in (theirs, mine):
            optimizer.zero_grad()
        (embedding(torch.tensor(rows).unsqueeze(1)) - 0.3).square().sum().backward()
        (dense[rows] - 0.3).square().sum().backward()
        for optimizer in (theirs, mine):
            optimizer.step()
    torch.testing.assert_close(embedding.weight_RD, dense.detach())


@pytest.mark.parametrize("decay", [None, 0.9])
def test_a_run_goes_on_where_it_was_saved_and_where_tables_grew(
    decay: float | None,
    tmp_path: Any,  # noqa: ANN401
) -> None:
    made = batches(4)
    tables = [embedding_of(), embedding_of()]
    optimizers = [RowwiseOptimizer([table], lr=0.1, decay=decay) for table in tables]

    def step(which: int, batch: tuple[Tensor, Tensor]) -> None:
        optimizers[which].zero_grad()
        (tables[which](batch[0]) * batch[1]).sum().backward()
        optimizers[which].step()

    for batch in made[:2]:
        step(0, batch)
    torch.save(optimizers[0].state_dict(), tmp_path / "state")
    step(0, made[2])
    step(0, made[3])
    for batch in made[:2]:
        step(1, batch)
    # The second one grows, and forgets its state before it is given the saved one.
    step(1, made[2])
    tables[1].grow([60, 500])
    optimizers[1] = RowwiseOptimizer([tables[1]], lr=7.0, decay=decay)
    optimizers[1].load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    tables[1].weight_RD[:50] = embedding_after(made[:2], decay)[:50]
    tables[1].weight_RD[60:460] = embedding_after(made[:2], decay)[50:]
    step(1, made[2])
    step(1, made[3])
    grown = tables[1].weight_RD
    assert torch.equal(torch.cat([grown[:50], grown[60:460]]), tables[0].weight_RD)


def embedding_after(made: list[tuple[Tensor, Tensor]], decay: float | None) -> Tensor:
    table = embedding_of()
    optimizer = RowwiseOptimizer([table], lr=0.1, decay=decay)
    for batch in made:
        optimizer.zero_grad()
        backpropagate(table, batch)
        optimizer.step()
    return table.weight_RD


def test_a_table_without_gradient_stays() -> None:
    tables = [embedding_of(0), embedding_of(1)]
    before = tables[1].weight_RD.clone()
    optimizer = RowwiseOptimizer(iter(tables), lr=0.1)
    backpropagate(tables[0], batches(1)[0])
    optimizer.step()
    assert torch.equal(tables[1].weight_RD, before)
    optimizer.zero_grad()
    assert tables[0].gradient() is None


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"lr": 0.0}, "lr == 0.0 must be above 0 and finite"),
        ({"decay": 1.0}, "decay == 1.0 must be in (0, 1), or None for Adagrad"),
        ({"eps": 0.0}, "eps == 0.0 must be above 0 and finite"),
    ],
)
def test_numbers_out_of_range_are_named(fault: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        RowwiseOptimizer([embedding_of()], **{"lr": 0.1, **fault})


def test_a_table_given_twice_is_refused() -> None:
    table = embedding_of()
    with pytest.raises(ValueError, match="embeddings has a table twice; it would make two steps"):
        RowwiseOptimizer([table, table], lr=0.1)


def test_a_state_of_another_rule_or_of_other_tables_is_refused() -> None:
    state = RowwiseOptimizer([embedding_of()], lr=0.1).state_dict()
    with pytest.raises(ValueError, match=r"the state has decay None and the optimizer 0\.9; one"):
        RowwiseOptimizer([embedding_of()], lr=0.1, decay=0.9).load_state_dict(state)
    smaller = SparseEmbedding([50, 399], D, torch.Generator())
    with pytest.raises(
        ValueError, match=r"vocabularies \[\(50, 400\)\] and the optimizer has \[\(50"
    ):
        RowwiseOptimizer([smaller], lr=0.1).load_state_dict(state)
