"""The served form against the trained stages: known items, new ones, changed ones."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from training.cascade import RANK, RETRIEVAL, Cascade
from training.features import OOV, RequestTensors
from training.models.item import ItemFeatures
from training.models.served.din import ServedDeepInterestNetwork
from training.models.served.two_tower import ServedTwoTower

SPARE_ROWS = 6
STAGES = [RETRIEVAL, RANK]
NEW_PRICE, NEW_POPULARITY = torch.tensor([12.5]), torch.tensor([33.0])


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def now(cascade: Cascade, requests: RequestTensors) -> RequestTensors:
    """The requests at the newest snapshot."""
    newest = len(cascade.rank.items.snapshots_SIX) - 1
    return requests._replace(snapshot_B=torch.full_like(requests.snapshot_B, newest))


def served(cascade: Cascade, stage: str) -> nn.Module:
    if stage == RETRIEVAL:
        return ServedTwoTower(cascade.retrieval, SPARE_ROWS).eval()
    return ServedDeepInterestNetwork(cascade.rank, SPARE_ROWS).eval()


def scripted(cascade: Cascade, stage: str) -> torch.jit.ScriptModule:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(served(cascade, stage)), file)
    file.seek(0)
    module: torch.jit.ScriptModule = torch.jit.load(file)
    return module


def trained(cascade: Cascade, stage: str) -> nn.Module:
    module: nn.Module = getattr(cascade, stage)
    return module


def items_of(cascade: Cascade, stage: str) -> ItemFeatures:
    items = trained(cascade, stage).get_submodule("items")
    assert isinstance(items, ItemFeatures)
    return items


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)


def test_scores_are_those_of_training(
    cascade: Cascade, stage: str, now: RequestTensors, rows: Tensor
) -> None:
    expected = trained(cascade, stage)(*now, rows)
    assert (now.history_len_B == 0).any()
    assert (rows == OOV).any()
    assert expected.std() > 0.1
    plain, compiled = served(cascade, stage), scripted(cascade, stage)
    frozen = torch.jit.freeze(compiled, preserved_attrs=["put_items"])
    with torch.inference_mode():
        for module in (plain, compiled, frozen):
            for _ in range(3):  # TorchScript compiles in its first calls
                close(module(*now, rows), expected)
                one = [tensor[3:4] for tensor in now]
                close(module(*one, rows[3:4]), expected[3:4])


def test_order_of_all_items_is_that_of_training(
    cascade: Cascade, stage: str, now: RequestTensors
) -> None:
    everything = torch.arange(len(cascade.rank.items.fields_IF)).expand(8, -1)
    order = trained(cascade, stage)(*now, everything).argsort(dim=1)
    assert served(cascade, stage)(*now, everything).argsort(dim=1).equal(order)


def test_a_candidate_scores_the_same_wherever_and_however_often_it_stands(
    cascade: Cascade, stage: str, now: RequestTensors, rows: Tensor
) -> None:
    module = served(cascade, stage)
    scores = module(*now, rows)
    twice = module(*now, torch.cat([rows.flip(1), rows], dim=1))
    close(twice, torch.cat([scores.flip(1), scores], dim=1))


def test_requests_scored_together_score_as_one_by_one(
    cascade: Cascade, now: RequestTensors, rows: Tensor
) -> None:
    """As on a GPU, where histories keep their padding, whatever stands in it."""
    module = ServedDeepInterestNetwork(cascade.rank, SPARE_ROWS).eval()
    valid = torch.arange(now.history_rows_BL.shape[1]) < now.history_len_B.unsqueeze(1)
    assert (~valid).any(1).sum() > 2
    together = module.scores(
        module.request(*now[:2], now.history_age_days_BL, now.history_len_B),
        torch.where(valid, now.history_rows_BL, rows[0, 0]),
        torch.where(valid, now.history_age_days_BL, 0.5),
        valid,
        rows,
        module.attention_length,
    )
    close(together, module(*now, rows))


def test_retrieval_encodes_as_the_trained_one(cascade: Cascade, now: RequestTensors) -> None:
    module = scripted(cascade, RETRIEVAL)
    items = len(cascade.retrieval.items.fields_IF)
    vectors = cascade.retrieval.encode_items()
    close(module.encode_items(torch.arange(1, items)), vectors)
    close(module.encode_items(torch.tensor([4, 2])), vectors[[3, 1]])
    close(module.encode_user(*now), cascade.retrieval.encode_user(*now))


def test_spare_rows_are_the_unknown_item(cascade: Cascade, stage: str, now: RequestTensors) -> None:
    items = len(cascade.rank.items.fields_IF)
    module = served(cascade, stage)
    unknown = trained(cascade, stage)(*now, torch.zeros(8, 1, dtype=torch.int64))
    for row in (items, items + SPARE_ROWS - 1):
        close(module(*now, torch.full((8, 1), row)), unknown)


@pytest.mark.parametrize("in_history", [False, True])
def test_a_new_item_scores_as_one_of_its_kind_with_the_unknown_id(
    cascade: Cascade, stage: str, now: RequestTensors, rows: Tensor, in_history: bool
) -> None:
    items = items_of(cascade, stage)
    known, new = 3, len(items.fields_IF) + 2
    module = scripted(cascade, stage)
    module.put_items(torch.tensor([new]), items.fields_IF[[known]], NEW_PRICE, NEW_POPULARITY)
    with torch.no_grad():  # the known item forgets its id and gets the new one's price
        items.ids.weight[known] = items.ids.weight[OOV]
        if stage == RANK:
            cascade.rank.item_bias.weight[known] = cascade.rank.item_bias.weight[OOV]
        items.snapshots_SIX[-1, known] = torch.stack(
            [NEW_PRICE.log1p(), torch.ones(1), NEW_POPULARITY.log1p()], dim=1
        )
    bought = now.history_rows_BL == known
    assert bought.any(1).sum() > 2
    here = now._replace(history_rows_BL=now.history_rows_BL * (~bought | in_history))
    there = now._replace(history_rows_BL=torch.where(bought & in_history, new, here[2]))
    expected = trained(cascade, stage)(*here, torch.cat([torch.full((8, 1), known), rows], dim=1))
    scores = module(*there, torch.cat([torch.full((8, 1), new), rows], dim=1))
    rest = rows != known
    close(scores[:, 0], expected[:, 0])
    close(scores[:, 1:][rest], expected[:, 1:][rest])
    if stage == RETRIEVAL:
        close(
            module.encode_items(torch.tensor([new]))[0], cascade.retrieval.encode_items()[known - 1]
        )


def test_a_changed_item_scores_as_a_new_export_would_have_it(
    cascade: Cascade, stage: str, now: RequestTensors, rows: Tensor
) -> None:
    module, items = scripted(cascade, stage), items_of(cascade, stage)
    before = module(*now, rows)
    changed = rows[4:6, 2]
    assert (changed != OOV).all()
    fields = items.fields_IF[changed.flip(0)]
    price, popularity = torch.tensor([0.0, 7.0]), torch.tensor([5.0, 0.0])
    module.put_items(changed, fields, price, popularity)
    later = copy.deepcopy(cascade)
    for name in STAGES:
        there = items_of(later, name)
        there.fields_IF[changed] = fields
        there.snapshots_SIX[-1, changed] = torch.stack(
            [price.log1p(), torch.tensor([0.0, 1.0]), popularity.log1p()], dim=1
        )
    groups = later.rank.match.groups_GI
    groups[1:, changed] = fields.t()[: len(groups) - 1]
    after = module(*now, rows)
    close(after, trained(later, stage)(*now, rows))
    assert not torch.allclose(after, before, rtol=1e-3)


@pytest.mark.parametrize(("row", "least", "most"), [(0, 0, 3), (10_000, 3, 10_000)])
def test_rows_that_hold_no_item_are_refused(
    cascade: Cascade, stage: str, row: int, least: int, most: int
) -> None:
    items = items_of(cascade, stage)
    last = len(items.fields_IF) + SPARE_ROWS - 1
    with pytest.raises(Exception, match=rf"rows {least} to {most} must be in \[1, {last}\]: row 0"):
        scripted(cascade, stage).put_items(
            torch.tensor([3, row]), items.fields_IF[:2], torch.ones(2), torch.ones(2)
        )


def test_the_trained_stage_stays_as_it_is(
    cascade: Cascade, stage: str, now: RequestTensors, rows: Tensor
) -> None:
    before = copy.deepcopy(trained(cascade, stage).state_dict())
    module = scripted(cascade, stage)
    fields = items_of(cascade, stage).fields_IF
    module.put_items(torch.tensor([3]), fields[:1], torch.ones(1), torch.ones(1))
    module(*now, rows)
    after = trained(cascade, stage).state_dict()
    assert all(after[name].equal(tensor) for name, tensor in before.items())
    assert all(p.requires_grad for p in trained(cascade, stage).parameters())
    assert not any(p.requires_grad for p in served(cascade, stage).parameters())
