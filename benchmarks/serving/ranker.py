"""The ranker: what is exported of it, beside the module that is trained and a textbook's.

All of them score the same candidates of the same request, in turn, with one thread. All are frozen
as a server freezes what it loads: weights are constants, but for tables that learn of new items.

Legend: B requests (here 1), N candidates, L history length.
"""

import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.operators.timing import Effort, Entry, ratio, take_turns
from benchmarks.serving.plan import RankerSizes
from benchmarks.serving.textbook import TextbookDin
from training.config import RankConfig
from training.features import CategoricalField, FeatureSchema, RequestTensors
from training.models.din import DeepInterestNetwork
from training.models.item import ItemCatalogue
from training.models.served.din import ServedDeepInterestNetwork

ITEM_FIELDS = (30, 300, 2_300, 1_000)
"""Values of each item field, as many as a grocer's catalogue has."""
USER_FIELDS = (6, 5, 12, 5, 6, 4, 6)
CONTEXT_FIELDS = (600,)
WARM_UP = 10
TEXTBOOK = "textbook"
EXPORTED = "exported"
EFFORT = Effort(seconds=0.0, rounds=1, turn_ms=0.0)
CALLS = 4
"""In a turn, so that what another form left in the caches does not decide."""

Tick = Callable[[str], None]


class Timed(NamedTuple):
    """A form of the ranker at one size."""

    form: str
    candidates: int
    history: int
    call_ms: float
    speedup: float
    """Over the textbook's form of the same scores, median of the turns."""
    difference: float
    """Largest of a logit to the trained module's; NaN where it computes something else."""


def measure(sizes: RankerSizes, tick: Tick) -> list[Timed]:
    """All forms at all sizes."""
    torch.manual_seed(0)
    trained = drawn_ranker(sizes.items, max(sizes.histories))
    modules = forms(trained)
    found: list[Timed] = []
    for history in sizes.histories:
        for candidates in sizes.candidates:
            tick(f"ranker: {candidates} candidates, history {history}")
            request = drawn_request(sizes.items, history)
            rows_BN = torch.randint(1, sizes.items + 1, (1, candidates))
            found += _compare(modules, trained, request, rows_BN, sizes.rounds)
    return found


def forms(trained: DeepInterestNetwork) -> dict[str, torch.jit.ScriptModule]:
    """The same ranker in all forms, scripted."""
    modules: dict[str, nn.Module] = {
        TEXTBOOK: TextbookDin(trained, matching=True),
        "textbook, without history match": TextbookDin(trained, matching=False),
        "as trained": trained,
        EXPORTED: ServedDeepInterestNetwork(trained, spare_rows=1_000),
    }
    return {name: _frozen(torch.jit.script(module.eval())) for name, module in modules.items()}


def _frozen(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    kept = [name for name in ("put_items",) if hasattr(module, name)]
    frozen: torch.jit.ScriptModule = torch.jit.freeze(module, preserved_attrs=kept)
    return frozen


def drawn_ranker(items: int, history: int) -> DeepInterestNetwork:
    """A ranker of the default configuration with weights that are drawn."""
    config = RankConfig()

    def fields(kind: str, sizes: tuple[int, ...]) -> tuple[CategoricalField, ...]:
        return tuple(
            CategoricalField(name=f"{kind}{n}", vocabulary=tuple(map(str, range(size))))
            for n, size in enumerate(sizes)
        )

    schema = FeatureSchema(
        user=fields("user", USER_FIELDS),
        context=fields("context", CONTEXT_FIELDS),
        item=fields("item", ITEM_FIELDS),
        history_length=history,
    )
    columns = [torch.randint(0, size + 1, (items + 1,)) for size in ITEM_FIELDS]
    catalogue = ItemCatalogue(
        fields_IF=torch.stack(columns, dim=1),
        cardinalities=tuple(size + 1 for size in ITEM_FIELDS),
        price_SI=torch.rand(1, items + 1) * 10,
        popularity_SI=torch.rand(1, items + 1) * 100,
    )
    catalogue.fields_IF[0] = 0
    ranker = DeepInterestNetwork(
        schema,
        catalogue,
        config.width,
        config.hidden,
        config.attention_units,
        config.attention_length,
    )
    return ranker.requires_grad_(False).eval()


def drawn_request(items: int, history: int) -> RequestTensors:
    """A request of a user with a full history; a third of it are items bought again."""
    distinct = torch.randint(1, items + 1, (max(2 * history // 3, 1),))
    rows_L = distinct[torch.randint(0, len(distinct), (history,))]
    context = [torch.randint(0, size + 1, (1,)) for size in CONTEXT_FIELDS]
    return RequestTensors(
        user_BU=torch.tensor([[size // 2 for size in USER_FIELDS]]),
        context_BC=torch.stack([*context, torch.tensor([12]), torch.tensor([3])], dim=1),
        history_rows_BL=rows_L.unsqueeze(0),
        history_age_days_BL=torch.rand(1, history).mul(365).sort(dim=1).values,
        history_len_B=torch.tensor([history]),
        snapshot_B=torch.zeros(1, dtype=torch.int64),
    )


def _compare(
    modules: dict[str, torch.jit.ScriptModule],
    trained: DeepInterestNetwork,
    request: RequestTensors,
    rows_BN: Tensor,
    rounds: int,
) -> list[Timed]:
    # A history is part of the candidates: what was bought is often recalled.
    own = min(rows_BN.shape[1] // 4, request.history_rows_BL.shape[1])
    rows_BN[0, :own] = request.history_rows_BL[0, :own]
    with torch.inference_mode():
        expected_BN = trained(*request, rows_BN)
        calls = {name: _call(module, request, rows_BN) for name, module in modules.items()}
        differences = {
            name: float((call() - expected_BN).abs().max()) for name, call in calls.items()
        }
        for call in calls.values():
            for _ in range(WARM_UP):
                call()
        entries = {name: Entry(call, CALLS) for name, call in calls.items()}
        times = take_turns(entries, EFFORT._replace(rounds=rounds), "cpu")
    return [
        Timed(
            form=name,
            candidates=rows_BN.shape[1],
            history=request.history_rows_BL.shape[1],
            call_ms=statistics.median(us) / 1e3,
            speedup=ratio(times[TEXTBOOK], us),
            difference=float("nan") if "without" in name else differences[name],
        )
        for name, us in times.items()
    ]


def _call(
    module: torch.jit.ScriptModule, request: RequestTensors, rows_BN: Tensor
) -> Callable[[], Tensor]:
    def call() -> Tensor:
        logits_BN: Tensor = module(*request, rows_BN)
        return logits_BN

    return call
