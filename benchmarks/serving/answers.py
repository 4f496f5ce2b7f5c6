"""Answers: whether a body holds the best items of the user who asked."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache

TOLERANCE = 1e-4
"""Of a score: less than what tells one item from the next, more than what batches round."""


def fault(body: bytes, scores: dict[str, float], answered: int) -> str | None:
    """What is wrong with an answer, or None.

    Items whose scores are equal may stand for each other.

    Args:
        body: JSON with `items`, best first, each with `item_id` and `position`.
        scores: of every candidate of that user, by item id.
        answered: K, items that the answer shall have.
    """
    try:
        items = json.loads(body)["items"]
        names = [item["item_id"] for item in items]
        positions = [item["position"] for item in items]
    except (ValueError, KeyError, TypeError):
        return "not the agreed JSON"
    if len(set(names)) != answered or positions != list(range(answered)):
        return f"not {answered} items"
    worst = sorted(scores.values(), reverse=True)[answered - 1]
    if any(scores.get(name, float("-inf")) < worst - TOLERANCE for name in names):
        return "not the best items"
    return None


def wrong_answers(
    samples: Sequence[tuple[int, bytes]],
    candidates: Callable[[str], dict[str, float]],
    answered: int,
) -> dict[str, int]:
    """How often which fault is among sampled answers; request n is user n's."""
    known = lru_cache(maxsize=None)(candidates)
    found: dict[str, int] = {}
    for number, body in samples:
        reason = fault(body, known(f"u{number}"), answered)
        if reason is not None:
            found[reason] = found.get(reason, 0) + 1
    return found
