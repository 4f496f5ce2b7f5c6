"""Triton functions that find where the top k of a row ends, with the row in registers.

Imported only where Triton is to run (see `triton_cross_entropy`): without it the names below are
plain functions that nobody calls. Types belong to Triton's compiler, not to Python's checkers.

Legend: R rows of a program, each cut into S slices of C entries (powers of two, S * C >= N). With
slices as the first dimension Triton gives a lane entries of one row, so that what is known of a
row is computed once for many rows.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN003, ANN201

from __future__ import annotations

try:
    import triton
    import triton.language as tl

    jit = triton.jit
except ImportError:
    tl = None

    def jit(function=None, **_options):
        """Leave a function as it is: tools that read every module meet no Triton here."""
        return function if function is not None else jit


@jit
def sum_of(x_SRC):
    """Sum of every row, [R]."""
    return tl.sum(tl.sum(x_SRC, axis=0), axis=1)


@jit
def count_of(is_SRC):
    """How many entries of every row are true, int64 [R]."""
    return sum_of(is_SRC.to(tl.int32)).to(tl.int64)


@jit
def least_of(x_SRC):
    """Minimum of every row, [R]."""
    return tl.min(tl.min(x_SRC, axis=0), axis=1)


@jit
def most_of(x_SRC):
    """Maximum of every row, [R]."""
    return tl.max(tl.max(x_SRC, axis=0), axis=1)


@jit
def key_of(x, SHIFT: tl.constexpr):
    """Integers in the order of float32 numbers, neighbours for neighbours.

    A negative float grows as its bits fall, so they are flipped. SHIFT drops low bits that are
    zero in every score, as in those that came from a half precision.
    """
    bits = x.to(tl.int32, bitcast=True) >> SHIFT
    return bits ^ ((bits >> 31) & (0x7FFFFFFF >> SHIFT))


@jit
def score_of(key, SHIFT: tl.constexpr):
    """The inverse of `key_of`."""
    bits = key ^ ((key >> 31) & (0x7FFFFFFF >> SHIFT))
    return (bits << SHIFT).to(tl.float32, bitcast=True)


@jit
def boundary_of(
    x_SRC, least_R, most_R, k_R, count_R, searched_R, SHIFT: tl.constexpr, GUESSES: tl.constexpr
):
    """The k-th and the (k+1)-th largest valid score [R] of each row that is searched.

    Closes in with keys lo < hi on a point with k scores above it: more lie above lo, fewer above
    hi. If lo and hi become neighbours instead, scores at hi are tied over the k-th place.
    False position with the Illinois rule (Dowell and Jarratt, 1971) takes few counts where scores
    spread evenly; after GUESSES of them, halving ends it within 32 more.

    Args:
        x_SRC: float32 scores, -inf where invalid.
        least_R: the least valid score.
        most_R: the greatest.
        k_R: float32, 0 < k < count where searched.
        count_R: float32, valid entries.
        searched_R: bool; the other rows get any number.
        SHIFT: see `key_of`.
        GUESSES: at most this many points by false position.
    """
    lo_R = key_of(least_R, SHIFT) - 1
    hi_R = key_of(most_R, SHIFT)
    point_R = hi_R
    excess_R = count_R - k_R
    shortage_R = k_R
    above_R = k_R * 0.0
    last_R = above_R
    open_R = searched_R.to(tl.int32)
    step = 0
    while tl.max(open_R, axis=0) > 0:
        half_R = (hi_R >> 1) - (lo_R >> 1)  # half, because hi - lo may not fit in 32 bits
        part_R = (half_R.to(tl.float32) * (excess_R / (excess_R + shortage_R))).to(tl.int32)
        guess_R = lo_R + part_R + part_R
        middle_R = (lo_R >> 1) + (hi_R >> 1) + (lo_R & hi_R & 1)
        good_R = (guess_R > lo_R) & (guess_R < hi_R) & (step < GUESSES)
        point_R = tl.where(open_R > 0, tl.where(good_R, guess_R, middle_R), point_R)
        is_above_SRC = x_SRC > score_of(point_R, SHIFT)[None, :, None]
        above_R = sum_of(tl.where(is_above_SRC, 1.0, 0.0))  # exact: fewer than 2^24
        off_R = above_R - k_R
        lo_R = tl.where(off_R > 0, point_R, lo_R)
        hi_R = tl.where(off_R < 0, point_R, hi_R)
        # The end that stays a second time counts half, or false position would creep up on it.
        stale_R = tl.where(off_R * last_R > 0, 0.5, 1.0)
        excess_R = tl.where(off_R > 0, off_R, excess_R * stale_R)
        shortage_R = tl.where(off_R < 0, -off_R, shortage_R * stale_R)
        last_R = off_R
        open_R = open_R & (off_R != 0).to(tl.int32) & (lo_R < hi_R - 1).to(tl.int32)
        step += 1
    split_R = above_R == k_R
    point_R = tl.where(split_R, point_R, hi_R)
    is_above_SRC = x_SRC > score_of(point_R, SHIFT)[None, :, None]
    lower_R = most_of(tl.where(is_above_SRC, float("-inf"), x_SRC))
    upper_R = least_of(tl.where(is_above_SRC, x_SRC, float("inf")))
    return tl.where(split_R, upper_R, lower_R), lower_R
