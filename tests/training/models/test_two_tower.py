"""Retrieval's scores of the whole catalogue, against those of one candidate list at a time."""

import torch

from training.cascade import Cascade
from training.features import RequestTensors


def test_scores_of_all_items_are_those_of_every_candidate(
    cascade: Cascade, requests: RequestTensors
) -> None:
    assert len(requests.snapshot_B.unique()) > 2
    retrieval = cascade.retrieval
    everything = torch.arange(1, len(retrieval.items.fields_IF)).expand(8, -1)
    expected = retrieval(*requests, everything)
    torch.testing.assert_close(retrieval.score_items(*requests), expected, rtol=1e-5, atol=1e-5)


def test_scores_of_all_items_have_the_gradients_of_every_candidate(
    cascade: Cascade, requests: RequestTensors
) -> None:
    retrieval = cascade.retrieval.double()
    everything = torch.arange(1, len(retrieval.items.fields_IF)).expand(8, -1)
    doubles = requests._replace(history_age_days_BL=requests.history_age_days_BL.double())
    weights = torch.randn(everything.shape, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((scores * weights).sum(), list(retrieval.parameters()))
        for scores in (retrieval.score_items(*doubles), retrieval(*doubles, everything))
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_scores_of_all_items_look_at_no_later_snapshot(
    cascade: Cascade, requests: RequestTensors
) -> None:
    snapshots = cascade.retrieval.items.snapshots_SIX
    before = cascade.retrieval.score_items(*requests)
    for now in requests.snapshot_B.unique().tolist():
        seen = requests.snapshot_B <= now
        with torch.no_grad():
            changed = snapshots.clone()
            changed[now + 1 :] += 7.0
            cascade.retrieval.items.snapshots_SIX = changed
        after = cascade.retrieval.score_items(*requests)
        assert after[seen].equal(before[seen])
        assert not torch.isclose(after[~seen], before[~seen]).any()
