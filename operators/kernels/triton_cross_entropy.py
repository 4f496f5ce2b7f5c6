"""DFTopK with cross-entropy on a GPU: loss and gradient in one kernel, by way of Triton.

Triton is optional and is imported at the first call, never with this module.

Legend: B rows, N candidates.
"""

import math
import warnings
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

Result = tuple[Tensor, Tensor | None, Tensor]
"""The loss, its gradient up to a factor, and the factor: see `dftopk_cross_entropy`."""

LIMIT = 16384
"""The most candidates that a program holds in registers."""

SHIFTS = {torch.float32: 0, torch.float16: 13, torch.bfloat16: 16}
"""Types the kernel reads, and the low bits that are zero when they are written as float32."""

_failures: list[str] = []  # why this process has given up on the kernel


def supports(scores: Tensor) -> bool:
    """Whether the kernel can take scores [B, N]: on a GPU, of a type in `SHIFTS`, N <= `LIMIT`.

    False where Triton is not installed, and for good once `try_dftopk_cross_entropy` has failed.
    """
    fits = scores.is_cuda and scores.dtype in SHIFTS and scores.shape[-1] <= LIMIT
    return fits and not _failures and _installed()


def try_dftopk_cross_entropy(
    scores_BN: Tensor,
    labels_BN: Tensor,
    k: int | Tensor,
    tau: float,
    mask_BN: Tensor | None,
    weights_B: Tensor | None,
    with_grad: bool,
) -> Result | None:
    """`dftopk_cross_entropy`, or None (warning once) if the kernel does not compile or launch."""
    if _failures:
        return None
    try:
        return dftopk_cross_entropy(scores_BN, labels_BN, k, tau, mask_BN, weights_B, with_grad)
    except torch.OutOfMemoryError:
        raise
    # A compiler fails in many ways: no C compiler, an unknown GPU, a missing driver. An error of
    # the device itself, reported late, meets the caller again on the torch path.
    except Exception as error:
        _failures.append(f"{type(error).__name__}: {error}")
        warnings.warn(
            f"the Triton kernel of DFTopK failed ({_failures[0]}); torch operations, slower but "
            "equal in result, run instead until the process ends; install the triton that this "
            "torch names in its requirements, and a C compiler",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def dftopk_cross_entropy(
    scores_BN: Tensor,
    labels_BN: Tensor,
    k: int | Tensor,
    tau: float,
    mask_BN: Tensor | None,
    weights_B: Tensor | None,
    with_grad: bool,
) -> Result:
    """Weighted mean cross-entropy of DFTopK's soft mask over the entries that count.

    Which do is said in `operators.joint_cross_entropy`, and depends on the scores. So one kernel
    takes the rows' losses, counts and gradients, and a few on B numbers add them in a fixed order
    and find what to divide by. Never waits for the device.

    Args:
        scores_BN: float16, bfloat16 or float32 [B, N], N <= `LIMIT`.
        labels_BN: bool [B, N].
        k: an int, or an integer tensor [B] on the scores' device.
        tau: temperature, within `operators.kernels.cpu.TAUS`.
        mask_BN: bool [B, N], True where valid, or None.
        weights_B: [B], finite and at least 0, or None for ones.
        with_grad: whether to compute the gradient of the loss in the scores.

    Returns:
        The loss, a float32 scalar (0 if nothing counts); what times the third is its gradient, or
        None: [B, N] in the scores' type, but in float32 for float16, which could not hold it; and
        one over the weight of all entries that count, a float32 scalar (0 if nothing counts).
    """
    from operators.kernels import triton_program  # here, because it imports Triton

    rows, n = scores_BN.shape
    wide = torch.float32 if scores_BN.dtype == torch.float16 else scores_BN.dtype
    scores_BN = scores_BN.contiguous()
    if scores_BN.numel() == 0 or (isinstance(k, int) and not 0 < k < n):
        grad_BN = torch.zeros_like(scores_BN, dtype=wide) if with_grad else None
        zero = scores_BN.new_zeros((), dtype=torch.float32)
        return zero, grad_BN, zero.clone()
    k_B = k.to(torch.int64).contiguous() if isinstance(k, Tensor) else None
    weights_B = None if weights_B is None else weights_B.float().contiguous()
    grad_BN = torch.empty_like(scores_BN, dtype=wide) if with_grad else None
    sums_2B = scores_BN.new_empty(2, rows, dtype=torch.float32)
    tile = _tile(n, scores_BN.dtype)
    with torch.cuda.device_of(scores_BN):
        triton_program.dftopk_cross_entropy[(-(-rows // tile["ROWS"]),)](
            scores_BN,
            _bytes(labels_BN),
            None if mask_BN is None else _bytes(mask_BN),
            k_B,
            weights_B,
            grad_BN,
            sums_2B,
            k if isinstance(k, int) else 0,
            n // tile["UNIT"],
            rows,
            1 / tau,
            **tile,
            SHIFT=SHIFTS[scores_BN.dtype],
            enable_fp_fusion=True,  # said, because Triton is about to change its default
            PTX=scores_BN.is_cuda and torch.version.cuda is not None,
        )
    loss, total = sums_2B.sum(-1)
    scale = total.reciprocal().nan_to_num(torch.nan, 0.0)  # no division by nothing
    return loss * scale, grad_BN, scale


def _tile(n: int, dtype: torch.dtype) -> dict[str, int]:
    """How one program holds rows of N: 32 entries in every lane, short rows side by side."""
    vector = 16 // dtype.itemsize  # what a lane loads at once
    slices = 32 // vector
    columns = max(vector, (1 << (n - 1).bit_length()) // slices)
    return {
        "UNIT": math.gcd(n, vector),
        "SLICES": slices,
        "ROWS": max(1, 32 * vector // columns),
        "COLUMNS": columns,
        "num_warps": max(1, columns // (32 * vector)),
    }


def _bytes(flags: Tensor) -> Tensor:
    return flags.contiguous().view(torch.uint8)


@cache
def _installed() -> bool:
    return find_spec("triton") is not None
