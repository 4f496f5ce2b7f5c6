"""Items of a loaded bundle, and items that are put into it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from serving.bundles.loading import load_funnel
from serving.cascade.funnel import Funnel
from serving.cascade.items import load_items
from serving.cascade.live_index import LiveIndex
from serving.cascade.policy import Policy
from serving.cascade.query import Query
from serving.cascade.stock import Held, Stock, StockError
from serving.state.feature_store import UserState
from serving.state.items import Changes, ItemState
from tests.serving.unruled import no_rules
from tests.serving.world import N_ITEMS, SPARE_ROWS, write_tiny_bundle
from training.features import OOV, ItemIndex, item_keys

CPU = torch.device("cpu")
NEW_ROW = N_ITEMS + 1


@pytest.fixture
def funnel(tmp_path: Path) -> Funnel:
    return load_funnel(write_tiny_bundle(tmp_path / "tiny"), CPU, no_rules())


def state(
    item_id: str,
    revision: int,
    *,
    available: bool | None = None,
    price_micros: int | None = None,
    popularity: float | None = None,
    created: int | None = None,
    **fields: str | None,
) -> ItemState:
    born = revision if created is None else created
    return ItemState(item_id, revision, born, available, price_micros, popularity, fields)


def put(funnel: Funnel, *states: ItemState) -> None:
    funnel.stock.put(Changes(states, max(s.revision for s in states)))


def recommended(funnel: Funnel, num: int = 3, *history: str, fresh: int = 0) -> list[str]:
    keys = item_keys(history)
    user = UserState({}, keys, np.zeros(len(keys), dtype=np.int64))
    asked = Policy(bundle="tiny", fresh_candidates=fresh)
    [outcome] = funnel.run([Query("r", user, {}, (), num=num, ts_us=10, policy=asked)])
    assert not outcome.degraded
    return list(outcome.item_ids)


class TestLiveIndex:
    def test_rows_go_on_where_the_bundle_ends(self) -> None:
        index = LiveIndex(ItemIndex(["a", "b"]), spare_rows=3)
        index.add(["z", "c"])
        index.add(["k"])
        assert len(index) == 6
        assert [index.row(i) for i in ("a", "z", "c", "k", "nobody")] == [1, 3, 4, 5, OOV]
        assert index.item_ids == ("a", "b", "z", "c", "k")
        assert index.ids_at(np.arange(1, 6)) == index.item_ids
        assert index.spare_rows == 0

    def test_histories_find_bundled_and_added_items(self) -> None:
        index = LiveIndex(ItemIndex(["a", "b"]), spare_rows=60)
        keys = item_keys(["b", "n7", "nobody", "n55", "a"])
        assert index.rows_of_keys(keys).tolist() == [2, OOV, OOV, OOV, 1]
        index.add([f"n{n}" for n in range(20)])
        index.add([f"n{n}" for n in range(20, 60)])
        assert index.rows_of_keys(keys).tolist() == [2, 10, OOV, 58, 1]


def test_fields_are_read_with_the_codes_of_the_schema(tmp_path: Path) -> None:
    items = load_items(write_tiny_bundle(tmp_path / "tiny"))
    colours = items.fields["colour"].tolist()
    assert colours == [OOV, *[1, 2] * (N_ITEMS // 2), *[OOV] * SPARE_ROWS]
    assert len(items) == len(items.price_micros_R) == 1 + N_ITEMS + SPARE_ROWS
    assert items.available_rows.tolist() == [n for n in range(1, N_ITEMS + 1) if n != 3]


def test_unavailable_item_is_gone_and_comes_back(funnel: Funnel) -> None:
    assert recommended(funnel) == ["i11", "i10", "i9"]
    put(funnel, state("i10", 1, available=False), state("i11", 2, available=False))
    assert recommended(funnel) == ["i13", "i12", "i9"]
    assert "i10" not in recommended(funnel, 200, "i10")
    put(funnel, state("i10", 3, available=True), state("i3", 4, available=True))
    assert recommended(funnel, 12)[:3] == ["i13", "i12", "i10"]
    assert funnel.stock.revision == 4


def test_new_item_is_found_ranked_and_remembered(funnel: Funnel) -> None:
    put(funnel, state("new", 7, popularity=500.0, price_micros=2_500_000, colour="red"))
    # The tiny world ranks by number of the row, and the new item has the highest.
    assert recommended(funnel) == ["new", "i10", "i9"]
    assert recommended(funnel, 2, "i30", "new") == ["new", "i30"]
    assert funnel.stock.held("new") == Held(NEW_ROW, True, 2_500_000, 500.0, {"colour": "red"})
    assert funnel.stock.held("nobody") is None


def test_new_item_that_is_not_popular_is_recalled_as_fresh(funnel: Funnel) -> None:
    put(funnel, state("old", 7), state("young", 9, colour="green"), state("mid", 8, colour=None))
    assert not {"old", "mid", "young"} & set(recommended(funnel, 10))
    assert recommended(funnel, 5, fresh=2)[:3] == ["young", "mid", "i11"]
    held = funnel.stock.held("young")
    assert held is not None
    assert held.fields == {"colour": None}


def test_price_and_fields_of_a_known_item_change_its_vector(funnel: Funnel) -> None:
    put(funnel, state("i40", 5, popularity=39.5, price_micros=1_500_000))
    assert recommended(funnel)[0] == "i40"
    put(funnel, state("i40", 6, popularity=0.0))
    assert recommended(funnel)[0] == "i11"
    held = funnel.stock.held("i40")
    assert held == Held(40, True, 1_500_000, 0.0, {"colour": "blue"})


def test_items_without_a_spare_row_are_refused_and_named(funnel: Funnel) -> None:
    many = [state(f"n{n}", 10 + n) for n in range(SPARE_ROWS - 1)]
    put(funnel, *many)
    put(funnel, state("b", 31), state("a", 30), state("gone", 32, available=False))
    assert funnel.stock.held("a") is not None  # came first
    assert funnel.stock.held("b") is None
    assert funnel.stock.refused == {"b"}
    put(funnel, state("b", 40, available=False, created=31))
    assert funnel.stock.refused == set()
    assert len(recommended(funnel, 200)) == N_ITEMS - 1 + SPARE_ROWS


def test_one_page_or_many_come_to_the_same(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    once, twice = load_funnel(bundle, CPU, no_rules()), load_funnel(bundle, CPU, no_rules())
    states = [
        state("i40", 1, popularity=39.5),
        state("new", 2, popularity=100.0, colour="blue"),
        state("i1", 3, available=False),
        state("other", 4, available=False),
    ]
    put(once, *states)
    for each in (*states, *states[1:]):
        put(twice, each)
    rows = np.arange(1, NEW_ROW + 1)
    for mine, theirs in zip(once.items.values(rows), twice.items.values(rows), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for history in ((), ("i30", "new")):
        assert recommended(once, 50, *history) == recommended(twice, 50, *history)


class Recorder(torch.nn.Module):
    """Remembers what it was told, until it is told of a price of 13."""

    told: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("told", torch.empty(0, 4))

    @torch.jit.export
    def put_items(
        self,
        rows_N: torch.Tensor,
        fields_NF: torch.Tensor,
        price_N: torch.Tensor,
        popularity_N: torch.Tensor,
    ) -> None:
        if bool((price_N == 13).any()):
            raise RuntimeError("an unlucky price")
        columns = [rows_N.float(), fields_NF[:, 0].float(), price_N, popularity_N]
        self.told = torch.stack(columns, dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture
def recorder() -> torch.jit.ScriptModule:
    module: torch.jit.ScriptModule = torch.jit.script(Recorder())
    return module


def with_stage(funnel: Funnel, module: torch.jit.ScriptModule) -> Stock:
    """The stock of a funnel that has one more stage."""
    stock = funnel.stock
    modules = (*stock._modules, module)
    return Stock(funnel.manifest.features, funnel.items, modules, stock._recall, CPU)


def test_every_stage_is_told_rows_codes_and_prices_in_currency_units(
    funnel: Funnel, recorder: torch.jit.ScriptModule
) -> None:
    stock = with_stage(funnel, recorder)
    states = [
        state("i2", 1, available=False),  # nothing a stage knows of
        state("i4", 2, price_micros=2_500_000),
        state("new", 3, popularity=7.0, colour="blue"),
    ]
    stock.put(Changes(tuple(states), 3))
    told: torch.Tensor = recorder.told
    assert told.tolist() == [[4, 2, 2.5, N_ITEMS - 4], [NEW_ROW, 2, 0, 7]]


def test_module_that_fails_leaves_everything_as_it_was(
    funnel: Funnel, recorder: torch.jit.ScriptModule
) -> None:
    broken = with_stage(funnel, recorder)
    new = state("new", 7, popularity=500.0, price_micros=13_000_000)
    page = Changes((new, state("i11", 8, available=False)), 8)
    message = r"its modules cannot take in items \((?s:.*)an unlucky price"
    with pytest.raises(StockError, match=message):
        broken.put(page)
    assert broken.revision == 0
    assert recommended(funnel) == ["i11", "i10", "i9"]
    funnel.stock.put(page)
    assert recommended(funnel) == ["new", "i10", "i9"]
