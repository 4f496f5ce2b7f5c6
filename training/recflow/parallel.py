"""Data parallelism: processes that train one cascade together, as one process would alone.

Started by torchrun, each process takes a slice of every batch. The scores of all slices are
gathered, every process computes the loss of the whole batch and takes the gradient of its own
scores; what the slices add to the gradient of a weight is then summed. So the result is that of one
process for every loss, whatever its means are over. Embeddings exchange only the rows touched.

Legend: B requests of a slice, G requests of the batch, N candidates, U touched rows, D width.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn

from training.folder import TrainError
from training.losses.judgments import Judgments
from training.models.sparse_embedding import SparseEmbedding
from training.recflow.batches import Batch
from training.recflow.log import PreparedLog

CPU = torch.device("cpu")


class Workers(NamedTuple):
    """The processes that train together, seen by one of them."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def leads(self) -> bool:
        """Whether this one writes files and reports."""
        return self.rank == 0

    def check_share(self, log: PreparedLog, days: Sequence[str], batch_size: int) -> None:
        """Require something to do for every process in every step.

        Raises:
            TrainError: the days have no requests, or a batch has fewer than there are processes.
        """
        sizes = dict(zip(log.meta.days, log.meta.requests, strict=True))
        least = [sizes[day] // -(-sizes[day] // batch_size) for day in days if sizes[day]]
        if not least:
            raise TrainError(f"{log.path} has no requests until {days[-1]}; train on more days")
        if min(least) < self.size:
            raise TrainError(
                f"{self.size} processes cannot share a batch of {min(least)} requests; start "
                f"fewer, or raise batch_size = {batch_size}"
            )

    def place(self, batch: Batch) -> Batch:
        """The batch on the device of this process."""
        if self.device.type == "cpu":
            return batch
        tensors = {
            name: value.to(self.device)
            for name, value in batch._asdict().items()
            if isinstance(value, Tensor)
        }
        judgments = batch.judgments
        moved = {n: v.to(self.device) for n, v in judgments._asdict().items() if v is not None}
        return batch._replace(**tensors, judgments=judgments._replace(**moved))

    def wait(self) -> None:
        """Wait for all."""
        if self.size > 1:
            distributed.barrier()

    def whole(
        self, scores: Sequence[Tensor], judgments: Judgments
    ) -> tuple[list[Tensor], Judgments]:
        """The scores of the whole batch and what is known about it, from those of its slices.

        Args:
            scores: float [B, N] of each stage.
            judgments: about the same.

        Returns:
            [G, N] of each stage and judgments, in the order of the ranks. Gradients reach this
            process's own scores only.
        """
        if self.size == 1:
            return list(scores), judgments
        sizes = self._sizes(len(judgments.grades_BN))
        known = torch.stack([column.float() for column in judgments[:4]], 1)
        known_GCN = torch.cat(self._gather(known, sizes))
        weights_G = judgments.weights_B
        if weights_G is not None:
            weights_G = torch.cat(self._gather(weights_G, sizes))
        grades, depth, relevant, valid = known_GCN.unbind(1)
        scores_BSN = torch.stack([score.float() for score in scores], 1)
        parts = self._gather(scores_BSN.detach(), sizes)
        parts[self.rank] = scores_BSN
        everybody = Judgments(grades, depth.long(), relevant > 0, valid > 0, weights_G)
        return list(torch.cat(parts).unbind(1)), everybody

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum what the slices add to the gradients of dense parameters."""
        if self.size == 1:
            return
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        pieces = flat.split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))

    def agree(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take the gradients of the first process for parameters that all computed in full."""
        if self.size > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    distributed.broadcast(parameter.grad, 0)

    def exchange(self, embeddings: Iterable[SparseEmbedding]) -> None:
        """Sum what the slices add to the gradients of embeddings, touched rows alone."""
        if self.size == 1:
            return
        for embedding in embeddings:
            rows_U, grads_UD = embedding.gradient() or self._nothing(embedding)
            sizes = self._sizes(len(rows_U))
            if not sum(sizes):
                continue
            touched = torch.cat(self._gather(rows_U, sizes))
            grads = torch.cat(self._gather(grads_UD, sizes))
            rows_U, places = touched.unique(return_inverse=True)
            summed_UD = grads.new_zeros(len(rows_U), grads.shape[1])
            embedding.set_gradient(rows_U, summed_UD.index_add_(0, places, grads))

    def _nothing(self, embedding: SparseEmbedding) -> tuple[Tensor, Tensor]:
        rows_U = torch.zeros(0, dtype=torch.int64, device=self.device)
        return rows_U, torch.zeros(0, embedding.width, device=self.device)

    def _sizes(self, size: int) -> list[int]:
        own = torch.tensor([size], device=self.device)
        sizes = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(sizes, own)
        return [int(one) for one in sizes]

    def _gather(self, own: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """A tensor of each process; they differ in their first dimension alone."""
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return [part[:size] for part, size in zip(parts, sizes, strict=True)]


ALONE = Workers()


@contextmanager
def workers() -> Iterator[Workers]:
    """The processes that torchrun started, as it says in RANK, WORLD_SIZE and others.

    One alone where it started none. Within a block of this, the same ones again.

    Raises:
        TrainError: only a part of what torchrun says is there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    needed = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    absent = [name for name in needed if name not in os.environ]
    if absent:
        raise TrainError(
            f"WORLD_SIZE = {size} is set but {', '.join(absent)} is not; start the processes with "
            "torchrun, or unset WORLD_SIZE"
        )
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else CPU
    met = distributed.is_initialized()
    if not met:
        distributed.init_process_group("nccl" if gpu else "gloo", device_id=device if gpu else None)
    try:
        yield Workers(distributed.get_rank(), size, device)
    finally:
        if not met:
            distributed.destroy_process_group()
