"""Target attention against its textbook form, by every path that this processor has."""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.training.kernels.textbook import TextbookAttention
from training.kernels import attention, library, torch_attention
from training.kernels.attention import target_attention

PATHS = ("torch", *("portable", "AVX2", "AVX-512")[: library.instruction_set() + 1])


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lets one path do everything."""
    name = str(request.param)
    if name == "torch":
        monkeypatch.setattr(attention, "takes", lambda *_: False)
        monkeypatch.setattr(torch_attention, "ELEMENTS", 5000)
    else:
        monkeypatch.setattr(attention, "instruction_set", lambda: PATHS.index(name) - 1)
    return name


class World(NamedTuple):
    history: Tensor
    items: Tensor
    mask: Tensor
    picks: Tensor


def world(B: int, N: int, L: int, P: int, D: int) -> World:
    """Histories of all lengths, the first empty and the last full; picks that repeat."""
    generator = torch.Generator().manual_seed(B * N + L)
    lengths = torch.randint(0, L + 1, (B,), generator=generator)
    lengths[0], lengths[-1] = 0, L
    mask = torch.arange(L) >= (L - lengths).unsqueeze(1)
    mask = mask[:, torch.randperm(L, generator=generator)]  # not only at the end
    picks = torch.randint(0, P, (B, N), generator=generator)
    picks[-1] = picks[-1, 0]
    history = torch.randn(B, L, D, generator=generator) * mask.unsqueeze(2)
    return World(history, torch.randn(P, D, generator=generator), mask, picks)


def by_parts(model: TextbookAttention, made: World) -> Tensor:
    width = made.history.shape[2]
    past, now = model.hidden.weight.split(width, dim=1)
    history_part = made.history @ past.t()
    candidate_part = made.items @ now.t() + model.hidden.bias
    weight = model.out.weight[0]
    return target_attention(
        history_part, candidate_part, weight, made.history, made.mask, made.picks
    )


def gradients(out: Tensor, model: TextbookAttention, made: World) -> list[Tensor]:
    wanted = (made.history, made.items, model.hidden.weight, model.hidden.bias, model.out.weight)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return list(torch.autograd.grad(out, wanted, weights.cos()))


@pytest.mark.parametrize(
    ("B", "N", "L", "P", "D", "H"),
    [
        (6, 40, 50, 240, 40, 80),  # as on RecFlow
        (3, 97, 50, 7, 40, 80),
        (4, 1, 1, 2, 1, 1),
        (5, 13, 17, 30, 9, 23),
        (2, 43, 33, 10, 65, 129),
    ],
)
@pytest.mark.usefixtures("path")
def test_values_and_gradients_are_those_of_the_textbook(
    B: int, N: int, L: int, P: int, D: int, H: int
) -> None:
    made, model = world(B, N, L, P, D), TextbookAttention(D, H)
    exact = TextbookAttention(D, H).double()
    exact.load_state_dict(model.state_dict())
    wide = made._replace(history=made.history.double(), items=made.items.double())
    for tensor in (*made[:2], *wide[:2]):
        tensor.requires_grad_()
    out, truth = by_parts(model, made), exact(*wide)
    torch.testing.assert_close(out.double(), truth, rtol=0, atol=1e-5)
    assert (out[0] == 0).all()
    for found, expected in zip(
        gradients(out, model, made), gradients(truth, exact, wide), strict=True
    ):
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1.0)


def arguments(*sizes: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    B, N, L, P, D, H = sizes
    made = world(B, N, L, P, D)
    floats = [torch.randn(*shape, dtype=dtype) for shape in ((B, L, H), (P, H), (H,), (B, L, D))]
    return *(x.requires_grad_() for x in floats), made.mask, made.picks


def test_the_twin_s_gradient_is_that_of_its_values() -> None:
    given = arguments(3, 4, 3, 5, 2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(target_attention, given)
    assert torch.autograd.gradgradcheck(target_attention, given)


def test_the_gradient_of_the_gradient_is_the_twin_s() -> None:
    given = arguments(3, 4, 5, 5, 2, 3)

    def twice(*tensors: Tensor) -> tuple[Tensor, ...]:
        out = target_attention(*tensors)
        (slope,) = torch.autograd.grad(out.square().sum(), tensors[1], create_graph=True)
        return torch.autograd.grad(slope.square().sum(), tensors[:4])

    exact = [x.detach().double().requires_grad_() for x in given[:4]]
    for found, expected in zip(twice(*given), twice(*exact, *given[4:]), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("sizes", [(2, 0, 3, 5), (2, 4, 0, 5), (1, 0, 0, 0), (0, 4, 3, 5)])
def test_nothing_to_attend_to_is_zero_and_keeps_the_graph(sizes: tuple[int, ...]) -> None:
    B, N, L, P = sizes
    floats = [
        torch.ones(*shape, requires_grad=True) for shape in ((B, L, 3), (P, 3), (3,), (B, L, 2))
    ]
    given = [*floats, torch.ones(B, L, dtype=torch.bool), torch.zeros(B, N, dtype=torch.int64)]
    out = target_attention(*given)
    assert out.shape == (B, N, 2)
    out.sum().backward()
    assert all(x.grad is None or bool((x.grad == 0).all()) for x in floats)


@pytest.mark.usefixtures("path")
def test_what_is_behind_the_mask_does_not_matter() -> None:
    history, candidates, weight, values, mask, picks = arguments(4, 5, 9, 6, 3, 20)
    results = []
    for filler in (0.0, torch.nan):
        hidden = [x.detach().masked_fill(~mask.unsqueeze(2), filler) for x in (history, values)]
        floats = [x.requires_grad_() for x in (hidden[0], candidates, weight, hidden[1])]
        given = [*floats, mask, picks]
        out = target_attention(*given)
        results.append([out, *torch.autograd.grad(out.square().sum(), floats)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("which", [0, 1])
def test_nan_is_not_hidden_and_spoils_no_other_request(which: int) -> None:
    given = [x.detach() for x in arguments(3, 5, 20, 9, 3, 20)]
    given[4] = torch.ones_like(given[4])
    given[5] = given[5] % 8
    given[5][1] = 8
    given[which].view(-1, 20)[25 if which == 0 else 8, 7] = torch.nan
    out = target_attention(*given)
    assert out.isnan().flatten(1).any(1).tolist() == [False, True, False]
    assert out[1].isnan().all()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_threads_change_no_bit(threads: Callable[[int], None]) -> None:
    if not library.takes(torch.zeros(1)):
        pytest.skip("the kernels are not built: install a C++ compiler and the package again")
    given = arguments(401, 40, 50, 200, 40, 80)  # more than a group of requests
    results = []
    for count in (1, 2, 5):
        threads(count)
        out = target_attention(*given)
        results.append([out, *torch.autograd.grad(out.square().sum(), given[:4])])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.usefixtures("path")
def test_half_precision_is_computed_in_float32() -> None:
    given = arguments(3, 5, 9, 6, 4, 8)
    halves = [x.detach().bfloat16().requires_grad_() for x in given[:4]]
    with torch.autocast("cpu", torch.bfloat16):
        out = target_attention(*halves, *given[4:])
    expected = target_attention(*(x.float() for x in halves), *given[4:])
    assert torch.equal(out, expected)
    (grad,) = torch.autograd.grad(out.sum(), halves[0])
    assert grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (0, lambda x: x[0], "history_part of shape [4, 6] must be [requests, length, units]"),
        (1, lambda x: x[:, :5], "candidate_part of shape [5, 5] must be [any, 6] with a history"),
        (2, lambda x: x[:5], "weight of shape [5] must be [6] with a history_part of shape [2, 4"),
        (3, lambda x: x[:, :3], "values of shape [2, 3, 2] must be [2, 4, any] with"),
        (4, lambda x: x[0], "mask of shape [4] must be [2, 4] with"),
        (5, lambda x: x[:1], "picks of shape [1, 3] must be [2, any] with"),
        (2, lambda x: x.to("meta"), "weight on meta must be where history_part is, on cpu"),
        (
            3,
            lambda x: x.long(),
            "values of torch.int64 must be floating point; pass values.float()",
        ),
        (4, lambda x: x.int(), "mask of torch.int32 must be torch.bool; pass mask > 0"),
        (5, lambda x: x.int(), "picks of torch.int32 must be torch.int64; pass picks.long()"),
        (5, lambda x: x + 3, "picks has 5; it must be in [0, 5) for a candidate_part of 5 rows"),
        (5, lambda x: x - 3, "picks has -3; it must be in [0, 5) for a candidate_part of 5 rows"),
    ],
)
def test_wrong_arguments_are_named(place: int, change: Any, message: str) -> None:  # noqa: ANN401
    given = [x.detach() for x in arguments(2, 3, 4, 5, 2, 6)]
    given[5] = torch.tensor([[0, 1, 2], [2, 1, 0]])
    given[place] = change(given[place])
    with pytest.raises(ValueError, match=re.escape(message)):
        target_attention(*given)


class OutOfMemory:
    """A library that never has memory for anything."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_: 1


def test_no_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    if not library.takes(torch.zeros(1)):
        pytest.skip("the kernels are not built: install a C++ compiler and the package again")
    given = arguments(2, 3, 4, 5, 2, 6)
    out = target_attention(*given)
    monkeypatch.setattr(attention, "loaded", OutOfMemory)
    with pytest.raises(MemoryError, match="attention's gradient; use a smaller batch"):
        out.sum().backward()
    with pytest.raises(MemoryError, match="no memory for the attention; use a smaller batch"):
        target_attention(*given)
