"""Curve: how recall grew while a method trained."""

from collections.abc import Sequence

import numpy as np

from training.leaderboard.trial import Moment

_POINTS = 200
"""The most moments a curve keeps."""


def smooth(curve: Sequence[Moment]) -> tuple[Moment, ...]:
    """Each recall replaced by the mean of the last twentieth of the run, and thinned out.

    Nothing that came later enters a moment, so a curve is never ahead of its run.
    """
    width = max(1, len(curve) // 20)
    recalls = [moment.recall for moment in curve]
    sums = np.concatenate([[0.0], np.cumsum(recalls)])
    ends = np.arange(1, len(curve) + 1)
    starts = np.maximum(ends - width, 0)
    means = (sums[ends] - sums[starts]) / (ends - starts)
    # The first means are of few batches: noise that would only widen the picture.
    kept = range(width - 1, len(curve))
    thin = max(1, -(-len(kept) // _POINTS))
    return tuple(Moment(curve[i].seconds, float(means[i])) for i in (*kept[:-1:thin], *kept[-1:]))


def mean_curve(curves: Sequence[Sequence[Moment]]) -> tuple[Moment, ...]:
    """Mean of the smoothed curves of runs that differ by their seed.

    The first one's, where they have not the same number of moments.
    """
    smoothed = [smooth(curve) for curve in curves]
    if len({len(curve) for curve in smoothed}) > 1:
        return smoothed[0]
    return tuple(
        Moment(*(float(mean) for mean in np.mean(moments, axis=0)))
        for moments in zip(*smoothed, strict=True)
    )
