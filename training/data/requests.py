"""Requests of a prepared dataset as the tensors every stage receives."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.dataset import Arrays
from training.features import RequestTensors, derived_context, pack_history


def request_tensors(
    arrays: Arrays, requests: NDArray[np.int64], history_length: int
) -> RequestTensors:
    """Tensors of B requests: what was known strictly before each.

    Args:
        arrays: the dataset.
        requests: int64 [B], indices of requests.
        history_length: L, newest interactions a request carries.
    """
    ts_us = arrays.request_ts_us[requests]
    rows, ages, lengths = pack_history(
        arrays.purchase_rows,
        arrays.purchase_ts_us,
        arrays.history_start[requests],
        arrays.history_end[requests],
        ts_us,
        history_length,
    )
    snapshots = np.searchsorted(arrays.snapshot_start_us, ts_us, side="right") - 1
    context = np.concatenate([arrays.request_context[requests], derived_context(ts_us)], axis=1)
    users = arrays.user_fields[arrays.request_user[requests]]
    return RequestTensors(
        user_BU=torch.from_numpy(users.astype(np.int64)),
        context_BC=torch.from_numpy(context.astype(np.int64)),
        history_rows_BL=torch.from_numpy(rows),
        history_age_days_BL=torch.from_numpy(ages),
        history_len_B=torch.from_numpy(lengths),
        snapshot_B=torch.from_numpy(np.maximum(snapshots, 0)),
    )


def as_newcomers(request: RequestTensors, hidden_B: Tensor) -> RequestTensors:
    """The same requests, some of them as if their user had never been seen.

    Args:
        request: B requests.
        hidden_B: bool [B], whose fields become out-of-vocabulary and whose history is hidden.
    """
    shown_B = ~hidden_B
    shown_B1 = shown_B.unsqueeze(1)
    return request._replace(
        user_BU=request.user_BU * shown_B1,
        history_rows_BL=request.history_rows_BL * shown_B1,
        history_age_days_BL=request.history_age_days_BL * shown_B1,
        history_len_B=request.history_len_B * shown_B,
    )
