import torch

from training.models.embedding import FieldEmbedding


def test_each_field_has_its_own_rows() -> None:
    embedding = FieldEmbedding((3, 2), width=2).eval()
    with torch.no_grad():
        embedding.table.weight.copy_(torch.arange(10.0).view(5, 2))
    indices = torch.tensor([[0, 0], [2, 1]])
    assert embedding(indices).tolist() == [[0, 1, 6, 7], [4, 5, 8, 9]]
    assert embedding.width == 4


def test_any_leading_dimensions() -> None:
    embedding = FieldEmbedding((3, 2), width=2).eval()
    indices = torch.tensor([[[0, 1], [2, 0], [1, 1]]])
    assert embedding(indices).equal(embedding(indices[0]).unsqueeze(0))


def test_no_fields() -> None:
    embedding = FieldEmbedding((), width=2)
    assert embedding(torch.zeros(4, 0, dtype=torch.int64)).shape == (4, 0)
    assert embedding.width == 0


def test_values_are_replaced_while_training_at_the_rate_alone() -> None:
    embedding = FieldEmbedding((2, 2), width=1, oov_rate=0.1)
    with torch.no_grad():
        embedding.table.weight.copy_(torch.tensor([[1.0], [0.0], [1.0], [0.0]]))
    draws = 20_000
    known = torch.ones(draws, 2, dtype=torch.int64)
    replaced = embedding.train()(known)
    error = (0.1 * 0.9 / (2 * draws)) ** 0.5
    assert abs(replaced.mean().item() - 0.1) < 4 * error
    assert (replaced[:, 0] != replaced[:, 1]).any()  # each value by itself
    assert embedding.eval()(known).sum() == 0


def test_the_row_of_the_unseen_is_trained() -> None:
    embedding = FieldEmbedding((3, 4), width=2, oov_rate=0.2).train()
    embedding(torch.ones(100, 2, dtype=torch.int64)).sum().backward()
    gradient = embedding.table.weight.grad
    assert gradient is not None
    touched = [row for row, line in enumerate(gradient) if line.any()]
    assert touched == [0, 1, 3, 4]
