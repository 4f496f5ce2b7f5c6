"""Negatives: candidates of other requests of a batch.

Legend: B requests, S slots of a request, N negatives, M draws, P = B * S places.
"""

import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

SIEVE = 1024
"""Buckets a request's own items are hashed into; few draws pass by chance."""
KEYS = 1 << 22
"""Random keys held at once."""


def draw_negatives(slots_BS: Int32, count: int, random: np.random.Generator) -> Int64:
    """Draw `count` filled slots of other requests for each request.

    Uniform, without replacement, and never a slot that holds one of the request's own candidates.
    The published code draws from all slots of the other requests, empty ones included, and does not
    look at what is in them (arXiv 2510.11472, `torch.multinomial`): an empty slot is no candidate
    that a cascade could answer with, and an item cannot be good and bad for the same request.

    Args:
        slots_BS: item rows, 0 in an empty slot.
        count: N.
        random: where the numbers come from.

    Returns:
        int64 [B, N], places in the flattened slots: `b * S + s`.

    Raises:
        ValueError: a request has fewer than N such slots.
    """
    filled_M = np.flatnonzero(slots_BS)
    drawn_BN = np.zeros((len(slots_BS), count), np.int64)
    missing = np.arange(len(slots_BS))
    # Draws are thrown away until N are left. Where that may never end, all slots are shuffled.
    if 4 * count <= len(filled_M):
        drawn_BN, complete_B = _reject(slots_BS, filled_M, count, random)
        missing = np.flatnonzero(~complete_B)
    rows_each = max(1, KEYS // max(1, len(filled_M)))
    for start in range(0, len(missing), rows_each):
        rows = missing[start : start + rows_each]
        drawn_BN[rows] = _shuffle(slots_BS, filled_M, rows, count, random)
    return drawn_BN


def _reject(
    slots_BS: Int32, filled: Int64, count: int, random: np.random.Generator
) -> tuple[Int64, Bool]:
    """First N acceptable of some more draws, and which requests got as many."""
    B = len(slots_BS)
    M = count + count // 2 + 8
    places_BM = filled[random.integers(0, len(filled), (B, M), dtype=np.int32)]
    # Equal draws meet when sorted; the first of them stays.
    keyed_BM = places_BM * M + np.arange(M)
    keyed_BM.sort(axis=1)
    place_BM, draw_BM = np.divmod(keyed_BM, M)
    good_BM = np.ones((B, M), np.bool_)
    again = place_BM[:, 1:] == place_BM[:, :-1]
    b, m = np.nonzero(again)
    good_BM[b, draw_BM[b, m + 1]] = False
    good_BM &= ~_own(slots_BS, slots_BS.reshape(-1)[places_BM], np.arange(B))
    nth_BM = good_BM.cumsum(axis=1)
    complete_B = nth_BM[:, -1] >= count
    chosen_BM = good_BM & (nth_BM <= count) & complete_B[:, None]
    drawn_BN = np.zeros((B, count), np.int64)
    drawn_BN[complete_B] = places_BM[chosen_BM].reshape(-1, count)
    return drawn_BN, complete_B


def _shuffle(
    slots_BS: Int32, filled: Int64, rows: Int64, count: int, random: np.random.Generator
) -> Int64:
    """N slots with the lowest of random keys, which go to the acceptable ones alone."""
    items = np.broadcast_to(slots_BS.reshape(-1)[filled], (len(rows), len(filled)))
    keys = random.random((len(rows), len(filled)))
    keys[_own(slots_BS, items, rows)] = np.inf
    enough = np.isfinite(keys).sum(axis=1)
    if len(rows) and enough.min() < count:
        raise ValueError(
            f"negatives == {count} is more than the {enough.min()} candidates that the other "
            f"requests of a batch of {len(slots_BS)} offer; raise batch_size or lower negatives"
        )
    return filled[keys.argsort(axis=1)[:, :count]]


def _own(slots_BS: Int32, items_BM: Int32, rows: Int64) -> Bool:
    """True where an item is a candidate of the request already, as it is in the request's slots."""
    sieve = np.zeros((len(rows), SIEVE), np.bool_)
    np.put_along_axis(sieve, (slots_BS[rows] % SIEVE).astype(np.int64), values=True, axis=1)
    own_BM = np.take_along_axis(sieve, (items_BM % SIEVE).astype(np.int64), axis=1)
    b, m = np.nonzero(own_BM)
    own_BM[b, m] = (slots_BS[rows[b]] == items_BM[b, m, None]).any(axis=1)
    return own_BM
