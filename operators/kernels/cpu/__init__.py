"""The compiled CPU kernels: where they are, what they are called with, whether they can be used.

They are built with the package if there is a C++ compiler. Without them the torch path runs.

Legend: B rows, N candidates.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from operators.kernels import compiled

VERSION = 3
"""What `cascade_version` of a library built from the sources here returns."""

INSTRUCTION_SETS = ("portable", "AVX2", "AVX-512")
"""Names of the instruction sets, in the order of their numbers."""

FAMILIES = ("laplace", "logistic", "box")
"""Names of the distribution functions, in the order of their numbers."""

STAGES = 8
"""The most stages that the joint kernel takes."""

TAUS = (1e-30, 1e30)
"""The temperatures that the kernels take; beyond, a distance over tau leaves the range of float."""

_POINTER, _INT64, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_SIGNATURES = {
    "cascade_instruction_set": (_INT, []),
    "cascade_boundary": (
        None,
        [_POINTER, _POINTER, _INT64, _INT64, _INT64, _POINTER, _POINTER, _INT, _INT],
    ),
    "cascade_threshold": (
        None,
        [
            *(_POINTER, _POINTER, ctypes.c_double, _INT, _INT64, _INT64, _POINTER, _POINTER),
            *(_INT, _INT),
        ],
    ),
    "cascade_cross_entropy": (
        _INT,
        [
            *(_POINTER, _POINTER, _POINTER, _POINTER, _INT64, _POINTER, ctypes.c_double),
            *(_INT64, _INT64, _POINTER, _POINTER, _INT, _INT),
        ],
    ),
    "cascade_joint_cross_entropy": (
        _INT,
        [
            *(_POINTER, _POINTER, _POINTER, _INT, _POINTER, _POINTER, _POINTER, ctypes.c_double),
            *(_INT64, _INT64, _POINTER, _POINTER, _INT, _INT),
        ],
    ),
}


@cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None and one warning if it is not there or cannot be loaded."""
    return compiled.find(Path(__file__).parent, "operators", load)


def load(path: Path) -> ctypes.CDLL:
    """The library at a path, with the types of its functions.

    Raises:
        OSError: it is missing, is not a library, or was built from other sources.
    """
    return compiled.load(path, "cascade_version", VERSION, _SIGNATURES)


@cache
def instruction_set() -> int:
    """Number of the best instruction set that this processor and the library have."""
    found = library()
    return -1 if found is None else int(found.cascade_instruction_set())


def built() -> bool:
    """Whether there are kernels."""
    return library() is not None


def takes(scores: Tensor) -> bool:
    """Whether the kernels can be called with these scores: float32, on the CPU, and built."""
    return scores.is_cpu and scores.dtype == torch.float32 and built()


def boundary(
    scores_BN: Tensor,
    ks_B: Tensor | None,
    k: int,
    instructions: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The k-th and (k+1)-th largest of each row, [B] each; both NaN where the row has a NaN.

    Args:
        scores_BN: float32, contiguous, N at least 2.
        ks_B: int64, contiguous, in [1, N - 1]; None: `k` for all rows.
        k: in [1, N - 1].
        instructions: an instruction set no better than `instruction_set()`, which is the default.
    """
    b, n = scores_BN.shape
    upper, lower = scores_BN.new_empty(b), scores_BN.new_empty(b)
    _loaded().cascade_boundary(
        *(scores_BN.data_ptr(), _address(ks_B), k, b, n, upper.data_ptr(), lower.data_ptr()),
        *(instruction_set() if instructions is None else instructions, torch.get_num_threads()),
    )
    return upper, lower


def threshold(
    scores_BN: Tensor,
    ks_B: Tensor,
    tau: float,
    family: str,
    instructions: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Root of `sum_i F((x_i - theta) / tau) = k` in each row: theta, and what rounding took, [B].

    Args:
        scores_BN: float32, contiguous.
        ks_B: int64, contiguous.
        tau: within `TAUS`.
        family: one of `FAMILIES`.
        instructions: an instruction set no better than `instruction_set()`, which is the default.
    """
    b, n = scores_BN.shape
    theta, rest = scores_BN.new_empty(b), scores_BN.new_empty(b)
    _loaded().cascade_threshold(
        *(scores_BN.data_ptr(), ks_B.data_ptr(), tau, FAMILIES.index(family), b, n),
        *(theta.data_ptr(), rest.data_ptr()),
        *(instruction_set() if instructions is None else instructions, torch.get_num_threads()),
    )
    return theta, rest


def cross_entropy(
    scores_BN: Tensor,
    labels_BN: Tensor,
    ks_B: Tensor | None,
    k: int,
    tau: float,
    mask_BN: Tensor | None,
    weights_B: Tensor | None,
    with_grad: bool,
    instructions: int | None = None,
) -> tuple[Tensor, Tensor] | None:
    """Weighted mean cross-entropy of DFTopK over the entries that count, and its gradient.

    Args:
        scores_BN: float32, contiguous.
        labels_BN: bool, contiguous.
        ks_B: int64, contiguous; None: `k` for all rows.
        k: how many to select.
        tau: within `TAUS`.
        mask_BN: bool, contiguous; None: every entry is valid.
        weights_B: float32, contiguous; None: 1.
        with_grad: whether the gradient is wanted; [0] is returned in its place otherwise.
        instructions: an instruction set no better than `instruction_set()`, which is the default.

    Returns:
        Scalar and [B, N]; None if a valid score is infinite, which the kernel leaves to others.
    """
    b, n = scores_BN.shape
    loss = scores_BN.new_empty(())
    grad = torch.empty_like(scores_BN) if with_grad else scores_BN.new_empty(0)
    infinite = _loaded().cascade_cross_entropy(
        *(scores_BN.data_ptr(), labels_BN.data_ptr(), _address(mask_BN), _address(ks_B), k),
        *(_address(weights_B), tau, b, n, loss.data_ptr(), grad.data_ptr() if with_grad else None),
        *(instruction_set() if instructions is None else instructions, torch.get_num_threads()),
    )
    return None if infinite else (loss, grad)


def joint_cross_entropy(
    stages: Sequence[Tensor],
    labels_BN: Tensor,
    ks: Sequence[Tensor | int],
    tau: float,
    mask_BN: Tensor | None,
    weights_B: Tensor | None,
    with_grad: bool,
    instructions: int | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """Weighted mean cross-entropy of surviving all stages' DFTopK, and its gradients.

    Args:
        stages: float32 [B, N], contiguous, at most `STAGES`.
        labels_BN: bool, contiguous.
        ks: for each stage an int, or int64 [B], contiguous.
        tau: within `TAUS`.
        mask_BN: bool, contiguous; None: every entry is valid.
        weights_B: float32, contiguous; None: 1.
        with_grad: whether gradients are wanted; there are none otherwise.
        instructions: an instruction set no better than `instruction_set()`, which is the default.

    Returns:
        Scalar, and [B, N] for each stage; None if a valid score is infinite.
    """
    b, n = labels_BN.shape
    loss = stages[0].new_empty(())
    grads = tuple(torch.empty_like(scores) for scores in stages) if with_grad else ()
    rows = [k if isinstance(k, Tensor) else None for k in ks]
    numbers = [0 if isinstance(k, Tensor) else k for k in ks]
    infinite = _loaded().cascade_joint_cross_entropy(
        *(_addresses(stages), _addresses(rows), (ctypes.c_int64 * len(ks))(*numbers), len(stages)),
        *(labels_BN.data_ptr(), _address(mask_BN), _address(weights_B), tau, b, n),
        *(loss.data_ptr(), _addresses(grads) if with_grad else None),
        *(instruction_set() if instructions is None else instructions, torch.get_num_threads()),
    )
    return None if infinite else (loss, grads)


def _addresses(tensors: Sequence[Tensor | None]) -> "ctypes.Array[ctypes.c_void_p]":
    return (ctypes.c_void_p * len(tensors))(*map(_address, tensors))


def _loaded() -> ctypes.CDLL:
    found = library()
    assert found is not None, "callers ask takes() first"
    return found


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
