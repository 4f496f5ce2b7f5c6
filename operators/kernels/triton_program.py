"""What one Triton program does with its rows: DFTopK, cross-entropy, and the gradient of both.

A row is read once and its gradient written once. For the types and the legend, R rows, S slices and
C columns, see `triton_boundary`.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from operators.kernels.triton_boundary import (
    boundary_of,
    count_of,
    jit,
    least_of,
    most_of,
    sum_of,
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
def cross_entropy_of(s, PTX: tl.constexpr):
    """Softplus(s) and sigmoid(s): a cross-entropy, and how steep it is.

    With s = -z where a label is true, else z, they are the loss of sigmoid(z), and its derivative
    but for the sign. They do not cancel, and share one exponential and one division. log1p(e) is
    2 artanh(e / (2 + e)), whose series in w = e / (2 + e) <= 1/3 is right to 1.4e-7 of its value
    after six terms; log(1 + e) would lose a small e. Logits are cut at 1e30 as in
    `operators.survival`: finite scores over a small tau may overflow, and sums must not.

    Args:
        s: float32.
        PTX: see `exp2_of`.
    """
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
    loss = tl.minimum(tl.maximum(s, 0.0), 1e30) + 2.0 * w * series
    sigmoid = tl.where(s >= 0.0, 1.0, e) * ((2.0 + e) * inverse)
    return loss, sigmoid


@jit
def share_of(x_SRC, boundary_R, part_R):
    """[S, R, C]: `part` split over the scores tied with the boundary."""
    tied_SRC = tl.where(x_SRC == boundary_R[None, :, None], 1.0, 0.0)
    share_R = part_R / tl.maximum(sum_of(tied_SRC), 1.0)
    return tied_SRC * share_R[None, :, None]


@jit(do_not_specialize=["k", "units", "rows"])
def dftopk_cross_entropy(
    scores,
    labels,
    mask,
    k_rows,
    weights,
    grad,
    sums,
    k,
    units,
    rows,
    inverse_tau,
    UNIT: tl.constexpr,
    SLICES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SHIFT: tl.constexpr,
    PTX: tl.constexpr,
):
    """Weighted loss of every row, how many entries count in it, and its gradient.

    `sums` [2, B] gets the losses' sum of every row and the number of entries that count in it, both
    times the row's weight; `grad` gets the gradient of that sum. `mask`, `k_rows`, `weights` and
    `grad` may be None: all valid, `k`, ones, no gradient. N is `units * UNIT`, which tells the
    compiler how well the rows are aligned. Labels and mask are uint8, 0 or 1; `k_rows` is int64.
    """
    n = units * UNIT
    row_R = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    slice_S = tl.arange(0, SLICES) * COLUMNS
    column_SRC = slice_S[:, None, None] + tl.arange(0, COLUMNS)[None, None, :]
    inside_R = row_R < rows
    here_SRC = inside_R[None, :, None] & (column_SRC < n)
    place_SRC = (row_R * n)[None, :, None] + column_SRC
    # As -inf, what is not valid gets the last places.
    x_SRC = tl.load(scores + place_SRC, mask=here_SRC, other=float("-inf")).to(tl.float32)
    sign_SRC = tl.load(labels + place_SRC, mask=here_SRC, other=0).to(tl.int32) << 31
    valid_SRC = here_SRC
    if mask is not None:
        valid_SRC = here_SRC & (tl.load(mask + place_SRC, mask=here_SRC, other=0) != 0)
        x_SRC = tl.where(valid_SRC, x_SRC, float("-inf"))

    count_R = tl.full([ROWS], 0, tl.int64) + n
    if mask is not None:
        count_R = count_of(valid_SRC)
    k_R = tl.full([ROWS], 0, tl.int64) + k
    if k_rows is not None:
        k_R = tl.load(k_rows + row_R, mask=inside_R, other=0)
    weight_R = tl.full([ROWS], 1.0, tl.float32)
    if weights is not None:
        weight_R = tl.load(weights + row_R, mask=inside_R, other=0.0)
    undecided_R = inside_R & (k_R > 0) & (k_R < count_R)
    least_R = least_of(tl.where(valid_SRC, x_SRC, float("inf")))
    most_R = most_of(x_SRC)
    entries_R = count_R
    searched_R = undecided_R
    counted_R = undecided_R
    # Infinite scores are rare enough for a branch: finite ones compete for the places they leave.
    is_infinite_R = undecided_R & ~(most_R - least_R < float("inf"))
    if tl.max(is_infinite_R.to(tl.int32), axis=0) > 0:
        entries_R = count_of(tl.abs(x_SRC) != float("inf"))  # finite or NaN
        places_R = k_R - count_of(x_SRC == float("inf"))
        searched_R = undecided_R & (places_R > 0) & (places_R < entries_R)
        counted_R = searched_R | (undecided_R & (count_of(x_SRC != x_SRC) > 0))

    upper_R, lower_R = boundary_of(
        x_SRC,
        least_R,
        most_R,
        k_R.to(tl.float32),
        count_R.to(tl.float32),
        searched_R,
        SHIFT,
        12,
    )
    theta_R = 0.5 * upper_R + 0.5 * lower_R
    s_SRC = signed_of((x_SRC - theta_R[None, :, None]) * inverse_tau, sign_SRC)
    s_SRC = tl.where(tl.abs(x_SRC) == float("inf"), float("-inf"), s_SRC)  # no loss and no slope
    loss_SRC, slope_SRC = cross_entropy_of(s_SRC, PTX)
    loss_R = tl.where(counted_R, sum_of(loss_SRC) * weight_R, 0.0)
    weighed_R = tl.where(counted_R, entries_R.to(tl.float32) * weight_R, 0.0)
    tl.store(sums + row_R, loss_R, mask=inside_R)
    tl.store(sums + rows + row_R, weighed_R, mask=inside_R)
    if grad is not None:
        slope_SRC = signed_of(slope_SRC, sign_SRC)
        part_R = 0.5 * sum_of(slope_SRC)
        # If a score is NaN so is the sum, and through the shares, 0 * NaN, the slopes of all.
        slope_SRC -= share_of(x_SRC, upper_R, part_R)
        slope_SRC -= share_of(x_SRC, lower_R, part_R)
        slope_SRC *= (weight_R * inverse_tau)[None, :, None]
        slope_SRC = tl.where(valid_SRC & counted_R[None, :, None], slope_SRC, 0.0)
        tl.store(grad + place_SRC, slope_SRC.to(grad.dtype.element_ty), mask=here_SRC)
