"""Perceptron: dense layers with ReLU between them, over the candidates of many requests.

Most of a step is spent here, so the layers run chunk by chunk: a chunk of rows passes all of them,
bias and ReLU in place, while it is in the cache.

Legend: B requests, R rows (N for each request), P items of the pool, C rows of a chunk, K inputs,
H units of the first layer, Y outputs.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ROWS = 2048
"""Rows of a chunk."""

_relu_backward = torch.ops.aten.threshold_backward.grad_input


class Shared(NamedTuple):
    """Sums of the first layer that rows have in common."""

    requests_BH: Tensor | None = None
    """Of a request, bias included: the same for its N rows, which follow each other."""
    items_PH: Tensor | None = None
    """Of an item: the same for all rows that pick it."""
    picks_R: Tensor | None = None
    """int64, the item of each row."""


class Perceptron(nn.Module):
    """Linear layers with ReLU between them and none after the last."""

    def __init__(self, widths: Sequence[int], dtype: torch.dtype = torch.float32) -> None:
        """Make layers from `widths[0]` inputs to `widths[-1]` outputs; products are of `dtype`."""
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.dtype = dtype

    def part(self, columns_XK: Tensor, first: int, *, bias: bool = False) -> Tensor:
        """What some columns of the input add to the sums of the first layer.

        Args:
            columns_XK: float [..., K].
            first: place of the first of them.
            bias: add the bias too.

        Returns:
            float [..., H].
        """
        weight_HK = self._columns(first, columns_XK.shape[-1])
        return product(columns_XK, weight_HK, self._tensors()[1] if bias else None, self.dtype)

    def forward(self, inputs: Sequence[tuple[Tensor, int]], shared: Shared | None = None) -> Tensor:
        """Pass rows through the layers.

        Args:
            inputs: columns of the input, float [R, K], each with the place of the first of them.
            shared: what the other columns add to the sums of the first layer.

        Returns:
            float32 [R, Y].
        """
        shared = shared or Shared()
        _, bias_H, *rest = self._tensors()
        weights = [self._columns(first, rows_RK.shape[1]) for rows_RK, first in inputs]
        output_RY: Tensor = _Layers.apply(  # type: ignore[no-untyped-call]
            len(inputs), self.dtype, *shared, *(rows for rows, _ in inputs), *weights,
            bias_H if shared.requests_BH is None else None, *rest,
        )  # fmt: skip
        return output_RY

    def _tensors(self) -> list[Tensor]:
        return [layer.get_parameter(name) for layer in self.layers for name in ("weight", "bias")]

    def _columns(self, first: int, count: int) -> Tensor:
        return self._tensors()[0][:, first : first + count]


def product(
    rows_XK: Tensor, weight_HK: Tensor, bias_H: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """A linear layer whose product is of `dtype`, float32 [..., H]."""
    with torch.autocast(rows_XK.device.type, dtype, enabled=dtype != torch.float32):
        product_XH: Tensor = nn.functional.linear(rows_XK, weight_HK, bias_H).float()
    return product_XH


class _Layers(torch.autograd.Function):
    """The layers and their gradients, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        inputs: int,
        dtype: torch.dtype,
        requests_BH: Tensor | None,
        items_PH: Tensor | None,
        picks_R: Tensor | None,
        *tensors: Tensor | None,
    ) -> Tensor:
        plan = _Plan(inputs, dtype, requests_BH, items_PH, picks_R, tensors)
        weights = [weight.to(dtype) for weight in plan.weights]
        biases = [bias.to(dtype) for bias in plan.biases]
        sums = [bias.new_empty(plan.rows, len(bias)) for bias in biases]
        first_RH = biases[0].new_empty(plan.rows, plan.units)
        for chunk in plan.chunks():
            below_CH = plan.first(chunk, first_RH[chunk])
            for weight, bias, layer_RH in zip(weights, biases, sums, strict=True):
                below_CH.relu_()
                below_CH = torch.addmm(bias, below_CH, weight.t(), out=layer_RH[chunk])
        ctx.plan = inputs, dtype, len(tensors)
        ctx.save_for_backward(requests_BH, items_PH, picks_R, *tensors, first_RH, *sums[:-1])
        return sums[-1].float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RY: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        inputs, dtype, count = ctx.plan
        requests_BH, items_PH, picks_R, *saved = ctx.saved_tensors
        plan = _Plan(inputs, dtype, requests_BH, items_PH, picks_R, saved[:count])
        hidden = saved[count:]
        weights = [weight.to(dtype) for weight in plan.weights]
        slopes = _Slopes(plan)
        for chunk in plan.chunks():
            above_CH = grad_RY[chunk].to(dtype)
            for i in range(len(weights) - 1, -1, -1):
                below_CH = hidden[i][chunk]
                slopes.add(i, above_CH, below_CH)
                above_CH = above_CH @ weights[i]
                _relu_backward(above_CH, below_CH, 0, grad_input=above_CH)
            slopes.add_first(chunk, above_CH)
        return None, None, *slopes.all()


class _Plan:
    """The arguments by their roles, and how they are cut."""

    def __init__(
        self,
        inputs: int,
        dtype: torch.dtype,
        requests_BH: Tensor | None,
        items_PH: Tensor | None,
        picks_R: Tensor | None,
        tensors: Sequence[Any],
    ) -> None:
        self.dtype = dtype
        self.requests_BH, self.items_PH, self.picks_R = requests_BH, items_PH, picks_R
        self.inputs: Sequence[Tensor] = tensors[:inputs]
        self.columns: Sequence[Tensor] = tensors[inputs : 2 * inputs]
        self.bias_H: Tensor | None = tensors[2 * inputs]
        self.weights: Sequence[Tensor] = tensors[2 * inputs + 1 :: 2]
        self.biases: Sequence[Tensor] = tensors[2 * inputs + 2 :: 2]
        self.rows = len(self.inputs[0]) if picks_R is None else len(picks_R)
        self.units = self.weights[0].shape[1]
        requests = self.rows if requests_BH is None else len(requests_BH)
        self.each = self.rows // max(1, requests)

    def chunks(self) -> Iterator[slice]:
        """Whole requests, as many as fit."""
        # Only a processor's own cache is worth it.
        rows = ROWS if self.weights[0].device.type == "cpu" else self.rows
        step = max(1, rows // max(1, self.each)) * self.each
        for start in range(0, self.rows, max(1, step)):
            yield slice(start, min(start + step, self.rows))

    def requests(self, chunk: slice) -> slice:
        """The requests of a chunk."""
        return slice(chunk.start // self.each, chunk.stop // self.each)

    def first(self, chunk: slice, out_CH: Tensor) -> Tensor:
        """Sums of the first layer."""
        if self.requests_BH is not None:
            requests_B1H = self.requests_BH[self.requests(chunk)].unsqueeze(1)
            out_CH.view(-1, self.each, self.units).copy_(requests_B1H)
        elif self.bias_H is not None:
            out_CH.copy_(self.bias_H)
        if self.items_PH is not None and self.picks_R is not None:
            out_CH.add_(self.items_PH.index_select(0, self.picks_R[chunk]))
        for rows_RK, weight_HK in zip(self.inputs, self.columns, strict=True):
            out_CH.addmm_(rows_RK[chunk].to(self.dtype), weight_HK.to(self.dtype).t())
        return out_CH


class _Slopes:
    """Gradients of the arguments, summed over the chunks."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.requests = None if plan.requests_BH is None else torch.empty_like(plan.requests_BH)
        self.items = None if plan.items_PH is None else torch.zeros_like(plan.items_PH)
        self.inputs = [torch.empty_like(rows) for rows in plan.inputs]
        self.columns = [weight.new_zeros(weight.shape) for weight in plan.columns]
        self.bias = None if plan.bias_H is None else torch.zeros_like(plan.bias_H)
        self.weights = [torch.zeros_like(weight) for weight in plan.weights]
        self.biases = [torch.zeros_like(bias) for bias in plan.biases]

    def add(self, layer: int, above_CH: Tensor, below_CH: Tensor) -> None:
        """Add a chunk's share of a later layer's gradients."""
        _add_product(self.weights[layer], above_CH, below_CH)
        self.biases[layer] += above_CH.sum(0)

    def add_first(self, chunk: slice, sums_CH: Tensor) -> None:
        """Add a chunk's share of the first layer's gradients, and its inputs'."""
        plan = self.plan
        if self.requests is not None:
            parts_BNH = sums_CH.view(-1, plan.each, plan.units)
            torch.sum(parts_BNH, 1, dtype=torch.float32, out=self.requests[plan.requests(chunk)])
        if self.bias is not None:
            self.bias += sums_CH.sum(0)
        if self.items is not None and plan.picks_R is not None:
            self.items.index_add_(0, plan.picks_R[chunk], sums_CH.float())
        for i, (rows_RK, weight_HK) in enumerate(zip(plan.inputs, plan.columns, strict=True)):
            _add_product(self.columns[i], sums_CH, rows_RK[chunk].to(plan.dtype))
            if plan.dtype == torch.float32:
                torch.mm(sums_CH, weight_HK, out=self.inputs[i][chunk])
            else:
                self.inputs[i][chunk] = sums_CH @ weight_HK.to(plan.dtype)

    def all(self) -> tuple[Tensor | None, ...]:
        """In the order of the arguments."""
        layers = (t for pair in zip(self.weights, self.biases, strict=True) for t in pair)
        return self.requests, self.items, None, *self.inputs, *self.columns, self.bias, *layers


def _add_product(sum_HK: Tensor, above_CH: Tensor, below_CK: Tensor) -> None:
    if above_CH.dtype == torch.float32:
        sum_HK.addmm_(above_CH.t(), below_CK)
    else:
        sum_HK += above_CH.t() @ below_CK
