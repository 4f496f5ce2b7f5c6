"""What one Triton program does with its rows: DFTopK, cross-entropy, and the gradient of both.

A row is read once and its gradient written once. For the types and the legend, R rows, S slices and
C columns, see `triton_boundary`.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from operators.kernels.triton_boundary import (
    boundary_of,
    jit,
    least_of,
    most_of,
    sum_of,
    threshold_of,
    tl,
)


@jit
def exp2_of(x, PTX: tl.constexpr):
    """2^x in one instruction where the target is NVIDIA's: `tl.exp2` guards tiny results."""
    if PTX:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return tl.exp2(x)


@jit
def inverse_of(x, PTX: tl.constexpr):
    """1 / x in one instruction where the target is NVIDIA's: `/` guards huge and tiny x."""
    if PTX:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return 1.0 / x


@jit
def signed_of(x, sign):
    """X with its sign flipped where the sign bit is set in `sign`."""
    return (x.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)


@jit
def cross_entropy_of(z, sign, PTX: tl.constexpr):
    """Cross-entropy of sigmoid(z) with a label, and its derivative in z.

    With s = -z where the label is true, else z: softplus(s) and +-sigmoid(s), which neither
    overflow nor cancel, and share one exponential and one division. log1p(e) is
    2 artanh(e / (2 + e)), whose series in w = e / (2 + e) <= 1/3 is right to 1.4e-7 of its value
    after six terms; log(1 + e) would lose a small e.

    Args:
        z: float32.
        sign: int32, the sign bit where the label is true and 0 where it is not.
        PTX: see `exp2_of`.
    """
    s = signed_of(z, sign)
    e = exp2_of(tl.abs(s) * -1.4426950408889634, PTX)
    product = (1.0 + e) * (2.0 + e)
    inverse = inverse_of(product, PTX)
    w = e * (1.0 + e) * inverse
    square = w * w
    series = square * (1 / 11) + 1 / 9
    series = series * square + 1 / 7
    series = series * square + 1 / 5
    series = series * square + 1 / 3
    series = series * square + 1.0
    loss = tl.maximum(s, 0.0) + 2.0 * w * series
    sigmoid = tl.where(s >= 0.0, 1.0, e) * ((2.0 + e) * inverse)
    return loss, signed_of(sigmoid, sign)


@jit
def share_of(x_SRC, boundary_R, part_R):
    """[S, R, C]: `part` split over the scores tied with the boundary; none if it is infinite."""
    tied_SRC = tl.where(x_SRC == boundary_R[None, :, None], 1.0, 0.0)
    share_R = part_R / tl.maximum(sum_of(tied_SRC), 1.0)
    share_R = tl.where(tl.abs(boundary_R) == float("inf"), 0.0, share_R)
    return tied_SRC * share_R[None, :, None]


@jit(do_not_specialize=["k", "units", "rows"])
def dftopk_cross_entropy(
    scores,
    labels,
    mask,
    k_rows,
    counts,
    weights,
    total,
    grad,
    losses,
    k,
    units,
    rows,
    inverse_tau,
    scale,
    UNIT: tl.constexpr,
    SLICES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SHIFT: tl.constexpr,
    PTX: tl.constexpr,
):
    """Weighted loss of every row and, where `grad` is given, its gradient.

    `mask`, `k_rows`, `counts`, `weights`, `total` and `grad` may be None: all valid, `k`, N,
    ones, 1 / `scale`, no gradient. N is `units * UNIT`, which tells the compiler how well the
    rows are aligned. Labels and mask are uint8, 0 or 1; `k_rows` and `counts` int64.
    """
    n = units * UNIT
    row_R = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    slice_S = tl.arange(0, SLICES) * COLUMNS
    column_SRC = slice_S[:, None, None] + tl.arange(0, COLUMNS)[None, None, :]
    inside_R = row_R < rows
    here_SRC = inside_R[None, :, None] & (column_SRC < n)
    place_SRC = (row_R * n)[None, :, None] + column_SRC
    # As -inf with a false label, what is not valid has no loss, no slope, and the last places.
    x_SRC = tl.load(scores + place_SRC, mask=here_SRC, other=float("-inf")).to(tl.float32)
    sign_SRC = tl.load(labels + place_SRC, mask=here_SRC, other=0).to(tl.int32) << 31
    valid_SRC = here_SRC
    if mask is not None:
        valid_SRC = here_SRC & (tl.load(mask + place_SRC, mask=here_SRC, other=0) != 0)
        x_SRC = tl.where(valid_SRC, x_SRC, float("-inf"))
        sign_SRC = tl.where(valid_SRC, sign_SRC, 0)

    count_R = tl.full([ROWS], 0, tl.int64) + n
    if counts is not None:
        count_R = tl.load(counts + row_R, mask=inside_R, other=0)
    k_R = tl.full([ROWS], 0, tl.int64) + k
    if k_rows is not None:
        k_R = tl.load(k_rows + row_R, mask=inside_R, other=0)
    counted_R = inside_R & (k_R > 0) & (k_R < count_R)
    scale_R = tl.full([ROWS], 1.0, tl.float32)
    if weights is not None:
        scale_R = tl.load(weights + row_R, mask=inside_R, other=0.0)
    if total is not None:
        total_R = tl.load(total + row_R * 0)
        counted_R = counted_R & (total_R != 0.0)
        scale_R = scale_R / tl.where(total_R != 0.0, total_R, 1.0)
    else:
        scale_R = scale_R * scale

    upper_R, lower_R = boundary_of(
        x_SRC,
        least_of(tl.where(valid_SRC, x_SRC, float("inf"))),
        most_of(x_SRC),
        k_R.to(tl.float32),
        count_R.to(tl.float32),
        counted_R,
        SHIFT,
        12,
    )
    z_SRC = (x_SRC - threshold_of(upper_R, lower_R)[None, :, None]) * inverse_tau
    loss_SRC, slope_SRC = cross_entropy_of(z_SRC, sign_SRC, PTX)
    loss_R = sum_of(loss_SRC * scale_R[None, :, None])  # scaled first: huge losses may not add up
    loss_R = tl.where(counted_R, loss_R, 0.0)
    tl.store(losses + row_R, loss_R, mask=inside_R)
    if grad is not None:
        slope_SRC *= (scale_R * inverse_tau)[None, :, None]
        part_R = 0.5 * sum_of(slope_SRC)
        slope_SRC -= share_of(x_SRC, upper_R, part_R)
        slope_SRC -= share_of(x_SRC, lower_R, part_R)
        # Slopes are finite, so that only a NaN among the scores makes their sum NaN.
        whole_R = tl.where(counted_R, part_R, 0.0)
        alone_R = counted_R & (part_R == part_R)
        slope_SRC = tl.where(alone_R[None, :, None], slope_SRC, whole_R[None, :, None])
        if mask is not None:
            slope_SRC = tl.where(valid_SRC, slope_SRC, 0.0)
        tl.store(grad + place_SRC, slope_SRC.to(grad.dtype.element_ty), mask=here_SRC)
