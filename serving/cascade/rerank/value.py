"""Value: what an item is worth to the shop, p^a * price^b, in logarithms.

Legend: N candidates.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.features import Int64

Float64 = NDArray[np.float64]

MICROS = 1_000_000


class Exponents(NamedTuple):
    """a and b of the value p^a * price^b; (1, 0) is the order of the ranker."""

    probability: float
    price: float


RANKING = Exponents(1.0, 0.0)


def log_values(logits_N: NDArray[np.float32], price_micros_N: Int64, by: Exponents) -> Float64:
    """Natural logarithms of p^a * price^b, p = sigmoid(logit), the price in currency units.

    An item without a price counts with the median price of the candidates that have one. As free it
    would never be seen, although its price may only be late; as dear it would be favoured for a
    gap in the data. With the median its probability decides.

    Args:
        logits_N: of the last ranking stage; finite.
        price_micros_N: 0 where none is known.
        by: the exponents.
    """
    # log sigmoid(x) = -log(1 + exp(-x)), which neither overflows nor loses small probabilities.
    log_p_N: Float64 = -np.logaddexp(0.0, -logits_N.astype(np.float64))
    values_N: Float64 = by.probability * log_p_N
    if by.price == 0:
        return values_N
    priced_N = price_micros_N > 0
    if not priced_N.any():
        return values_N
    log_price_N = np.log(np.where(priced_N, price_micros_N, 1) / MICROS)
    if not priced_N.all():
        log_price_N[~priced_N] = np.log(np.median(price_micros_N[priced_N]) / MICROS)
    return values_N + by.price * log_price_N
