"""Rows of a table: the compiled kernels against torch, bit for bit where sums allow it."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from training.kernels import library, rows
from training.kernels.rows import COUNTED, Columns, Touched, coalesce, gather, update

pytestmark = pytest.mark.skipif(
    library.library() is None,
    reason="the kernels are not built: install a C++ compiler and the package again",
)

WIDTHS = (1, 4, 7, 8, 16, 32)
SIZES = (9, 70_000, 3, 40_000)
"""Rows of the fields: summed into an array, or sorted in one pass or in several."""
OFFSETS = (0, 9, 70_009, 70_012)
R = sum(SIZES)


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(rows, "takes", lambda *_: False)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def batch(fields: tuple[int, ...], count: int, width: int) -> Touched:
    """Rows of which few are hot; some are unknown, negative or beyond the last of their field."""
    generator = torch.Generator().manual_seed(count)
    sizes = torch.tensor([SIZES[field] for field in fields])
    spread = torch.rand(count, len(fields), generator=generator) ** 4 * 1.1
    numbers = (spread * sizes).int()
    numbers[3::11] = 0
    numbers[5::17] *= -1
    numbers[7::19] = torch.iinfo(torch.int32).max
    grads = torch.randn(count, len(fields) * width, generator=generator)
    columns = Columns(fields, tuple(OFFSETS[f] for f in fields), tuple(SIZES[f] for f in fields))
    return Touched(numbers, grads, columns)


@pytest.mark.parametrize("width", WIDTHS)
def test_gathered_rows_are_those_of_torch(by_torch: Callable[[], None], width: int) -> None:
    weight = torch.randn(R, width)
    numbers, _, columns = batch((2, 0, 1, 1), 2000, width)
    found = gather(weight, numbers, columns)
    by_torch()
    assert torch.equal(found, gather(weight, numbers, columns))


@pytest.mark.parametrize("count", [0, 1, 40, 3000, 30_000])
@pytest.mark.parametrize("width", WIDTHS)
def test_sums_are_those_of_torch(by_torch: Callable[[], None], width: int, count: int) -> None:
    batches = [batch((0, 1, 2, 3), count, width), batch((3, 1, 1), count // 2, width)]
    found_rows, found = coalesce(batches, width)
    by_torch()
    expected_rows, expected = coalesce(batches, width)
    assert torch.equal(found_rows, expected_rows)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_threads_change_no_bit(threads: Callable[[int], None]) -> None:
    batches = [batch((0, 1, 2, 3), 30_000, 8), batch((3, 1, 1), 20_000, 8)]
    weight = torch.randn(R, 8)
    results = []
    for count in (1, 2, 5):
        threads(count)
        touched = coalesce(batches, 8)
        moved, moment, counts = weight.clone(), torch.zeros(R), torch.zeros(R, dtype=torch.int16)
        update(moved, moment, counts, torch.full((COUNTED + 1,), 0.1), *touched, 0.1, 1e-8)
        results.append([gather(weight, *batches[0][::2]), *touched, moved, moment, counts])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("counted", [False, True])
def test_updates_are_those_of_torch(
    by_torch: Callable[[], None], width: int, counted: bool
) -> None:
    touched, grads = coalesce([batch((0, 1, 2, 3), 3000, width)], width)

    def updated() -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(R, width, generator=generator)
        moment = torch.rand(R, generator=generator)
        if not counted:
            update(weight, moment, None, None, touched, grads, 0.1, 1e-3)
            return [weight, moment]
        counts = torch.full((R,), 3, dtype=torch.int16)
        counts[touched[0]] = COUNTED  # stays there
        rates = torch.rand(COUNTED + 1, generator=generator)
        update(weight, moment, counts, rates, touched, grads, 0.1, 1e-3)
        return [weight, moment, counts]

    found = updated()
    by_torch()
    for mine, theirs in zip(found, updated(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_too_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_ENTRIES", 100)
    with pytest.raises(ValueError, match="one field has 100 entries; use a smaller batch"):
        coalesce([batch((0, 1), 50, 4), batch((1,), 50, 4)], 4)


class OutOfMemory:
    @staticmethod
    def cascade_coalesce(*_: object) -> int:
        return -1


def test_no_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "loaded", OutOfMemory)
    with pytest.raises(MemoryError, match="sum the embedding's gradients; use a smaller batch"):
        coalesce([batch((0, 1), 50, 4)], 4)
