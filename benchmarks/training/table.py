"""The page of the training benchmark."""

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.training.vocabulary import Growth


class Row(NamedTuple):
    """A contender in a setting."""

    batch_size: int
    negatives: int
    contender: str
    requests_per_s: float
    speedup: float
    """Over the published form, median of the turns."""


def page(
    about: Sequence[str], steps: Sequence[Row], loader: float, growth: Sequence[Growth]
) -> str:
    """Markdown.

    Args:
        about: lines about machine, versions and effort.
        steps: requests a second of whole steps.
        loader: requests a second of the loader alone, one thread.
        growth: what the number of rows costs.
    """
    return "\n".join(
        [
            "# Training",
            "",
            "```",
            "make bench TARGET=training ARGS='--out docs/benchmarks'",
            "```",
            "",
            *(f"- {line}" for line in about),
            "",
            "DSSM and DIN as published: 40 candidates a request and what is drawn from other "
            "requests, a history of 50, embeddings of 8, DFTopK's joint loss. A step is loading, "
            "forward, loss, backward and update. *Published* is the plain form of the same models: "
            "concatenations, a copy of the history for every candidate, dense Adam on every row; "
            "its batches come from the loader of here.",
            "",
            "| batch | negatives | | requests/s | times published |",
            "|---|---|---|---|---|",
            *(
                f"| {row.batch_size} | {row.negatives} | {row.contender} | "
                f"{row.requests_per_s:,.0f} | {row.speedup:.1f} |"
                for row in steps
            ),
            "",
            f"The loader alone: {loader:,.0f} requests/s on one thread.",
            "",
            "One table of 8 columns, looked up and updated for the videos of a batch of 1024 "
            "(candidates and histories):",
            "",
            "| rows | dense Adam, ms | touched rows alone, ms | resident, GB |",
            "|---|---|---|---|",
            *(
                f"| {one.rows:,} | {'' if one.dense_ms is None else f'{one.dense_ms:,.0f}'} | "
                f"{one.sparse_ms:.1f} | {one.resident_gigabytes:.2f} |"
                for one in growth
            ),
            "",
        ]
    )
