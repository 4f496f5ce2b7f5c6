"""Tiny runs on a log, in this process and in others."""

import json
from pathlib import Path
from typing import Any

import torch

from training.recflow.config import RecFlowConfig
from training.recflow.run import CHECKPOINT, METRICS

TIMES = ("seconds", "requests_per_s")


def tiny_config(**overrides: object) -> RecFlowConfig:
    """Ten steps over two days an epoch."""
    values: dict[str, Any] = {
        "name": "tiny", "batch_size": 64, "units": 16, "embedding_width": 4, "checkpoint_steps": 3,
    }  # fmt: skip
    return RecFlowConfig(**(values | overrides))


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Lines of metrics, without the times."""
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{key: v for key, v in line.items() if key not in TIMES} for line in lines]


def state_of(folder: Path) -> dict[str, Any]:
    """The checkpoint, without the times."""
    state: dict[str, Any] = torch.load(folder / CHECKPOINT, weights_only=True)
    del state["seconds"], state["tally"]["since_s"]
    return state


def bits(state: Any) -> Any:  # noqa: ANN401
    """Nested state with every tensor as its type, shape and bytes."""
    if isinstance(state, dict):
        return {key: bits(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [bits(value) for value in state]
    if isinstance(state, torch.Tensor):
        return str(state.dtype), tuple(state.shape), state.numpy().tobytes()
    return state
