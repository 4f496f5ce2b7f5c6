"""The compiled kernels against torch, on every instruction set that this processor has."""

import ctypes
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from operators import topk_cross_entropy
from operators.kernels import cpu
from operators.kernels.boundary import boundary
from operators.kernels.family import FAMILIES
from operators.kernels.torch_cross_entropy import Batch, cross_entropy

pytestmark = pytest.mark.skipif(
    not list(Path(cpu.__file__).parent.glob("_kernels*")),
    reason="the kernels are not built: install a C++ compiler and the package again",
)

SETS = range(cpu.instruction_set() + 1)
LENGTHS = (2, 3, 15, 16, 17, 40, 64, 319, 321, 640, 1000, 4097, 9001, 70_000, 140_000)
"""On both sides of a vector, of rows that are not sampled, of small samples and of a chunk."""


def rows_of(kind: str, b: int, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(b, n, generator=generator)
    match kind:
        case "tied":
            return (2 * x).round()
        case "constant":
            return torch.full((b, n), 0.3)
        case "ascending":
            return x.sort(-1).values
        case "descending":
            return x.sort(-1, descending=True).values
        case "heavy":
            return torch.tan(3 * x)
        case "few large":
            return torch.where(torch.rand(b, n, generator=generator) < 0.01, 1e6 + x, x)
        case "comb":  # a sample of every 2nd, 3rd, ... entry sees nothing of the rest
            return torch.where(torch.arange(n) % 2 == 0, x, 100 + x)
        case "alternating rows":  # where one row's cut was says nothing of the next one's
            return x + 1000.0 * (torch.arange(b) % 2).unsqueeze(1)
        case "infinite":
            u = torch.rand(b, n, generator=generator)
            return torch.where(u < 0.2, -torch.inf, torch.where(u > 0.8, torch.inf, x))
    return x


KINDS = (
    *("random", "tied", "constant", "ascending", "descending", "heavy", "few large", "comb"),
    "alternating rows",
)


def cuts(n: int) -> list[int]:
    return sorted({1, max(n // 4, 1), n // 2, n - 1} - {0})


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("kind", [*KINDS, "infinite"])
@pytest.mark.parametrize("n", LENGTHS)
def test_the_boundary_is_that_of_a_sort(instructions: int, kind: str, n: int) -> None:
    x = rows_of(kind, 4 if n < 10_000 else 1, n)
    ranked = x.sort(-1, descending=True).values
    for k in cuts(n):
        upper, lower = cpu.boundary(x, None, k, instructions)
        assert torch.equal(upper, ranked[:, k - 1])
        assert torch.equal(lower, ranked[:, k])


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("n", [40, 1000, 9001, 140_000])
def test_the_boundary_of_a_row_with_nan_is_nan_and_of_no_other(instructions: int, n: int) -> None:
    x = rows_of("random", 3, n)
    x[1, n // 3] = torch.nan
    upper, lower = cpu.boundary(x, torch.tensor([1, 2, n - 1]), 0, instructions)
    assert upper.isnan().tolist() == [False, True, False]
    assert lower.isnan().tolist() == [False, True, False]
    assert upper[2] == x[2].sort().values[1]


def in_double(batch: Batch) -> tuple[Tensor, Tensor]:
    weights = None if batch.weights is None else batch.weights.double()
    return cross_entropy(batch._replace(scores=batch.scores.double(), weights=weights), True)


def assert_same(batch: Batch, instructions: int) -> None:
    found = cpu.cross_entropy(*batch, True, instructions)
    assert found is not None
    loss, grad = in_double(batch)
    torch.testing.assert_close(found[0].double(), loss, rtol=1e-6, atol=0)
    assert_close_in_rows(found[1], grad, batch)


def assert_close_in_rows(found: Tensor, grad: Tensor, batch: Batch) -> None:
    """To 1e-6 of the largest in the row; of all it holds where half of its sum is given away."""
    ks = batch.k if batch.ks is None else batch.ks.unsqueeze(-1)
    ranked = (
        batch.scores if batch.mask is None else batch.scores.masked_fill(~batch.mask, -torch.inf)
    )
    upper, lower = boundary(ranked, ks)
    tied = (ranked == upper) | (ranked == lower)
    all_of_it = grad.abs().sum(-1, keepdim=True) + grad.abs().max()
    size = torch.where(tied, all_of_it, grad.abs().amax(-1, keepdim=True))
    assert ((found - grad).abs() <= 1e-6 * size).all()


def snapped(x: Tensor) -> Tensor:
    """Scores of 12 bits, whose distance from a midpoint no type has to round."""
    return (x * 64).round().clamp(-2048, 2047) / 64


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "alternating rows"])
@pytest.mark.parametrize("n", LENGTHS)
def test_loss_and_gradient_equal_those_of_torch(instructions: int, kind: str, n: int) -> None:
    x = snapped(rows_of(kind, 3 if n < 10_000 else 1, n))
    labels = rows_of("random", len(x), n) > 0.5
    for k in cuts(n):
        assert_same(Batch(x, labels, None, k, 0.5, None, None), instructions)


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("kind", ["random", "tied", "constant"])
@pytest.mark.parametrize("n", LENGTHS)
def test_masks_weights_and_a_k_of_each_row(instructions: int, kind: str, n: int) -> None:
    b = 9 if n < 10_000 else 2
    x = snapped(rows_of(kind, b, n))
    generator = torch.Generator().manual_seed(n + 1)
    labels = torch.rand(b, n, generator=generator) < 0.3
    mask = torch.rand(b, n, generator=generator) < 0.7
    weights = torch.rand(b, generator=generator)
    ks = torch.randint(-1, n + 2, (b,), generator=generator)
    mask[0] = False
    x = torch.where(mask, x, torch.tensor([torch.nan, torch.inf])[torch.arange(n) % 2])
    found = cpu.cross_entropy(x, labels, ks, 0, 2.0, mask, weights, True, instructions)
    finite = Batch(x.where(mask, 0.0), labels, ks, 0, 2.0, mask, weights)
    loss, grad = in_double(finite)
    assert found is not None
    torch.testing.assert_close(found[0].double(), loss, rtol=1e-6, atol=0)
    assert_close_in_rows(found[1], grad, finite)
    assert (found[1][~mask] == 0).all()


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_losses_of_a_perfect_and_of_a_reversed_row(instructions: int, scale: float) -> None:
    """From far below the spacing of floats at 1, to where exp would overflow."""
    x = snapped(rows_of("random", 4, 200))
    top = x >= x.sort(-1, descending=True).values[:, 49:50]
    for labels in (top, ~top):
        assert_same(Batch(x, labels, None, 50, 0.05 / scale, None, None), instructions)


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("value", [torch.inf, -torch.inf])
def test_rows_with_infinite_scores_are_left_to_others(instructions: int, value: float) -> None:
    for n in (40, 1000, 140_000):
        x = rows_of("random", 2, n)
        x[1, 3] = value
        batch = Batch(x, x > 1, None, n // 4, 1.0, None, None)
        assert cpu.cross_entropy(*batch, True, instructions) is None
        assert cpu.cross_entropy(*batch, False, instructions) is None


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("n", [40, 1000, 140_000])
def test_nan_spoils_its_row_and_the_loss_but_no_other_row(instructions: int, n: int) -> None:
    x = snapped(rows_of("random", 2, n))
    x[0, 5] = torch.nan
    batch = Batch(x, x > 1, None, n // 4, 1.0, None, None)
    loss, grad = cpu.cross_entropy(*batch, True, instructions) or (x, x)
    assert loss.isnan()
    assert grad[0].isnan().all()
    alone = cpu.cross_entropy(*batch._replace(scores=x[1:], labels=x[1:] > 1), True, instructions)
    assert alone is not None
    torch.testing.assert_close(grad[1:], alone[1] / 2)


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("family", cpu.FAMILIES)
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "heavy"])
@pytest.mark.parametrize("n", [2, 17, 40, 1000, 140_000])
def test_memberships_sum_to_k(instructions: int, family: str, kind: str, n: int) -> None:
    x = rows_of(kind, 3 if n < 10_000 else 1, n)
    for k, tau in zip((1, max(n // 4, 1), n - 1), (0.01, 1.0, 100.0), strict=True):
        ks = torch.full((len(x),), k)
        theta, rest = cpu.threshold(x, ks, tau, family, instructions)
        distance = (x.double() - theta.double().unsqueeze(1)) - rest.double().unsqueeze(1)
        soft = FAMILIES[family].soft(distance, tau)[0]
        assert (soft.sum(-1) - k).abs().max() <= 16 * torch.finfo(torch.float32).eps * k


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", [(4000, 40), (300, 1000), (2, 400_000)])
def test_threads_change_no_bit(shape: tuple[int, int]) -> None:
    x = rows_of("random", *shape)
    results = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found = cpu.cross_entropy(x, x > 1, None, shape[1] // 4, 1.0, None, None, True)
        assert found is not None
        ks = torch.full(shape[:1], 7)
        roots = cpu.threshold(x, ks, 0.5, "logistic")
        results.append((*found, *cpu.boundary(x, None, 7), *roots))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_boundary_operation_keeps_its_promises() -> None:
    x = torch.randn(3, 2, 9)
    for ks, k in ((None, 4), (torch.tensor([[[1]], [[2]], [[3]]]), 0)):
        torch.library.opcheck(torch.ops.cascade.boundary.default, (x, ks, k))
    assert boundary(torch.empty(0, 5), 2)[0].shape == (0, 1)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Lets the library be looked for at a path where a test may put something."""
    monkeypatch.setattr(cpu, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: ".so")
    cpu.library.cache_clear()
    yield tmp_path / "_kernels.so"
    cpu.library.cache_clear()


def test_without_kernels_torch_runs_and_says_so_once(elsewhere: Path) -> None:
    assert not elsewhere.exists()
    x, labels = torch.tensor([[4.0, 2.0, 0.0]]), torch.tensor([[True, False, False]])
    with pytest.warns(RuntimeWarning, match=r"not built.*install a C\+\+ compiler and then"):
        loss = topk_cross_entropy(x, labels, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert topk_cross_entropy(x, labels, 1) == loss
    torch.testing.assert_close(loss, torch.tensor(0.2250), rtol=0, atol=1e-4)


def test_a_damaged_library_is_not_used(elsewhere: Path) -> None:
    elsewhere.write_text("not a library")
    with pytest.warns(RuntimeWarning, match=r"cannot be used \(.*_kernels.so"):
        assert not cpu.takes(torch.zeros(1))


def test_a_library_of_other_sources_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older:
        @staticmethod
        def cascade_version() -> int:
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Older)
    with pytest.raises(OSError, match=r"_kernels.so has version 0 and must have \d"):
        cpu.load(Path("_kernels.so"))
