import torch

from training.models.item import ItemCatalogue, ItemFeatures

PRICE = torch.tensor([[0.0, 2.0, 0.0], [0.0, 3.0, 1.0]])
POPULARITY = torch.tensor([[0.0, 7.0, 0.0], [0.0, 9.0, 4.0]])
FIELDS = torch.tensor([[0, 0], [1, 2], [2, 0]])


def _items() -> ItemFeatures:
    catalogue = ItemCatalogue(FIELDS, (3, 3), PRICE, POPULARITY)
    return ItemFeatures(catalogue, id_width=4, field_width=2, output=5)


def test_looking_up_projected_items_equals_projecting_what_is_asked_for() -> None:
    items = _items().double().eval()
    few = torch.tensor([[2, 0], [1, 1]])[:, :1]  # not more than there are items
    many = torch.tensor([[2, 0], [1, 1]])
    assert few.numel() <= len(FIELDS) < many.numel()
    one_by_one = torch.cat([items(row.view(1)) for row in many.flatten()]).view(2, 2, -1)
    torch.testing.assert_close(items(many), one_by_one, rtol=0, atol=1e-12)
    torch.testing.assert_close(items(few), one_by_one[:, :1], rtol=0, atol=1e-12)


def test_both_ways_have_equal_gradients() -> None:
    items = _items().double().eval()
    rows = torch.tensor([[2, 0, 1, 1]])
    weight = torch.randn(1, 4, 5, dtype=torch.float64)
    (items(rows) * weight).sum().backward()
    looked_up = [parameter.grad for parameter in items.parameters()]
    items.zero_grad(set_to_none=True)
    sum((items(rows[:, n : n + 1]) * weight[:, n : n + 1]).sum() for n in range(4)).backward()
    for parameter, expected in zip(items.parameters(), looked_up, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=1e-12)


def test_snapshot_values() -> None:
    rows, snapshots = torch.tensor([[1, 2], [2, 0]]), torch.tensor([0, 1])
    values = _items().snapshot(rows, snapshots)
    expected = torch.tensor(
        [[[3.0, 1.0, 8.0], [1.0, 0.0, 1.0]], [[2.0, 1.0, 5.0], [1.0, 0.0, 1.0]]]
    )
    expected[..., [0, 2]] = expected[..., [0, 2]].log()
    torch.testing.assert_close(values, expected)
