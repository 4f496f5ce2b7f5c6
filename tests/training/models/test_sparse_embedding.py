"""The sparse embedding against one `torch.nn.Embedding` a field."""

import copy
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from training.kernels import rows
from training.models.sparse_embedding import SparseEmbedding

VOCABULARIES = (7, 300, 2, 1)
D = 4


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def _path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(rows, "takes", lambda *_: False)


def made(vocabularies: Sequence[int] = VOCABULARIES, **others: Any) -> SparseEmbedding:  # noqa: ANN401
    return SparseEmbedding(vocabularies, D, torch.Generator().manual_seed(3), **others)


def dense(embedding: SparseEmbedding) -> list[nn.Embedding]:
    """A table a field, whose row 0 stands for all that is unknown."""
    tables = embedding.weight_RD.clone().split(embedding.vocabularies)
    return [nn.Embedding.from_pretrained(t, freeze=False, padding_idx=0) for t in tables]


def embed(tables: list[nn.Embedding], numbers: Tensor, fields: Sequence[int]) -> Tensor:
    known = [
        torch.where((column > 0) & (column < len(tables[field].weight)), column, 0)
        for column, field in zip(numbers.long().unbind(-1), fields, strict=True)
    ]
    return torch.cat([tables[f](column) for f, column in zip(fields, known, strict=True)], dim=-1)


def numbers_of(*shape: int) -> Tensor:
    """Known rows, unknown ones, and what is no row of any field."""
    return torch.randint(-1, 310, shape, generator=torch.Generator().manual_seed(1))


def test_values_and_gradients_are_those_of_dense_tables() -> None:
    embedding = made()
    tables = dense(embedding)
    calls = [((5, 3, 4), (0, 1, 2, 3)), ((6, 3), (1, 0, 1)), ((2, 9, 1), (2,))]
    total = expected_total = torch.zeros(())
    for shape, fields in calls:
        numbers = numbers_of(*shape) % 8 if fields == (1, 0, 1) else numbers_of(*shape)
        found, expected = embedding(numbers, fields), embed(tables, numbers, fields)
        assert torch.equal(found, expected)
        total = total + (found + 1).square().sum()
        expected_total = expected_total + (expected + 1).square().sum()
    total.backward()
    expected_total.backward()
    touched, grads = embedding.gradient() or (torch.empty(0), torch.empty(0))
    assert (touched[1:] > touched[:-1]).all()
    whole = torch.zeros_like(embedding.weight_RD).index_add_(0, touched, grads)
    dense_grads = torch.cat([t.weight.grad for t in tables if t.weight.grad is not None])
    torch.testing.assert_close(whole, dense_grads)
    assert torch.equal(touched, dense_grads.any(1).nonzero().squeeze(1))


def test_both_integers_are_the_same() -> None:
    embedding, numbers = made(), numbers_of(50, 4)
    numbers[0, 1] = 1 << 40
    numbers[1, 1] = (1 << 32) + 5
    narrow = numbers.clamp(max=400).int()
    assert torch.equal(embedding(numbers), embedding(narrow))


def test_gradients_are_collected_until_they_are_forgotten() -> None:
    embedding = made()
    assert embedding.gradient() is None
    numbers = torch.tensor([[1, 5, 1, 0], [1, 6, 0, 0]])
    for times in (1, 2):  # with the sums looked at in between
        embedding(numbers).sum().backward()
        found = embedding.gradient()
        assert found is not None
        assert found[0].tolist() == [1, 7 + 5, 7 + 6, 307 + 1]
        assert found[1].tolist() == [[2.0 * times] * D, *3 * [[1.0 * times] * D]]
    embedding.zero_gradient()
    assert embedding.gradient() is None
    with torch.no_grad():
        assert not embedding(numbers).requires_grad


def test_a_gradient_can_be_replaced_and_repeated_rows_are_summed() -> None:
    embedding = made()
    embedding(numbers_of(5, 4)).sum().backward()
    embedding.set_gradient(
        torch.tensor([9, 2, 9]), torch.tensor([[1.0], [2.0], [4.0]]).expand(3, D)
    )
    found = embedding.gradient()
    assert found is not None
    assert found[0].tolist() == [2, 9]
    assert found[1].tolist() == [[2.0] * D, [5.0] * D]
    embedding.set_gradient(torch.empty(0, dtype=torch.int64), torch.empty(0, D))
    assert [len(part) for part in embedding.gradient() or ()] == [0, 0]


def test_the_table_is_a_function_of_the_generator() -> None:
    table = made([200, 3000], std=0.5).weight_RD
    assert torch.equal(table, made([200, 3000], std=0.5).weight_RD)
    other = SparseEmbedding([200, 3000], D, torch.Generator().manual_seed(4), std=0.5).weight_RD
    assert not torch.equal(table, other)
    assert (table[[0, 200]] == 0).all()
    assert abs(table.mean()) < 0.02  # four times std / sqrt(12800)
    assert abs(table.std() - 0.5) < 0.02
    assert list(made().parameters()) == []


def test_growing_keeps_rows_and_adds_others() -> None:
    embedding = made([3, 4])
    before = embedding.weight_RD.clone()
    embedding(torch.tensor([[1, 1]])).sum().backward()
    embedding.grow([3, 6])
    assert embedding.gradient() is None
    assert torch.equal(embedding.weight_RD[:7], before)
    assert embedding.weight_RD[7:].all()
    embedding.grow([5, 6])
    assert torch.equal(embedding.weight_RD[[0, 1, 2, 5, 6, 7, 8]], before)
    added = embedding.weight_RD[[3, 4, 9, 10]]
    assert len(added.flatten().unique()) == 4 * D  # no row is drawn twice
    again = made([3, 4])
    again.grow([3, 6])
    again.grow([5, 6])
    assert torch.equal(again.weight_RD, embedding.weight_RD)


def test_a_state_is_loaded_by_the_same_tables_only() -> None:
    source, target = made(), SparseEmbedding(VOCABULARIES, D, torch.Generator().manual_seed(9))
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.weight_RD, source.weight_RD)
    assert torch.equal(copy.deepcopy(source).weight_RD, source.weight_RD)
    swapped = made([300, 7, 2, 1])
    with pytest.raises(
        ValueError, match=r"has vocabularies \[7, 300, 2, 1\] and this one \[300, 7"
    ):
        swapped.load_state_dict(source.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: made([]), "vocabularies is empty; there must be at least one field"),
        (lambda _: made([3, 0]), "vocabularies[1] == 0 must be at least 1; rows are only ever"),
        (lambda _: made([1 << 31]), "vocabularies sum to 2147483648; at most 2147483647 rows are"),
        (lambda _: made(std=-1.0), "std == -1.0 must be at least 0 and finite"),
        (lambda _: SparseEmbedding([2], 0, torch.Generator()), "width == 0 must be at least 1"),
        (lambda e: e.grow([8, 300, 2]), "vocabularies has 3 fields and must have 4"),
        (lambda e: e.grow([8, 299, 2, 1]), "vocabularies[1] == 299 must be at least 300; rows"),
        (
            lambda e: e(torch.zeros(2, 4)),
            "rows of torch.float32 must be torch.int32 or torch.int64",
        ),
        (lambda e: e(torch.zeros(4, 2).int()), "rows of shape [4, 2] must end in 4, a column for"),
        (lambda e: e(torch.zeros(4, 1).int(), [4]), "fields has 4; it must be in [0, 4)"),
        (
            lambda e: e.set_gradient(torch.zeros(2), torch.zeros(2, D)),
            "rows of torch.float32 and shape [2] must be torch.int64 [rows]",
        ),
        (
            lambda e: e.set_gradient(torch.arange(2), torch.zeros(3, D)),
            "grads of torch.float32 and shape [3, 4] must be torch.float32 [2, 4]",
        ),
        (
            lambda e: e.set_gradient(torch.tensor([3, 310]), torch.zeros(2, D)),
            "rows has 310; it must be in [0, 310)",
        ),
    ],
)
def test_wrong_arguments_are_named(change: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=re.escape(message)):
        change(made())


def test_a_call_of_no_places_is_empty() -> None:
    embedding = made()
    found = embedding(torch.empty(0, 3, 4, dtype=torch.int32))
    assert found.shape == (0, 3, 4 * D)
    pad(found, (1, 0)).sum().backward()
    assert [len(part) for part in embedding.gradient() or ()] == [0, 0]
