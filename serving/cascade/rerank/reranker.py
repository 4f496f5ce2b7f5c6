"""Reranker: the last order of what ranking scored, by value, diversity and business rules.

Legend: N candidates, M pinned items among them, K items of the answer, P pool, D width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.cascade.items import Items
from serving.cascade.policy import Policy
from serving.cascade.rerank.bundle_rules import BundleRules
from serving.cascade.rerank.caps import Cap, Caps
from serving.cascade.rerank.choice import CAP_BROKEN, Choice, Pick, arranged
from serving.cascade.rerank.diversity import Diversity, Float64, relevance, unit_vectors
from serving.cascade.rerank.dpp import Dpp
from serving.cascade.rerank.mmr import Mmr
from serving.cascade.rerank.reranked import Reranked
from serving.cascade.rerank.rulebook import Rulebook
from serving.cascade.rerank.rules import Rules
from serving.cascade.rerank.ruling import NO_RULES, Ruling
from serving.cascade.rerank.value import RANKING, Exponents, log_values
from training.features import CategoricalField, Int64

POOL_PER_PLACE = 5
"""Diversity looks at this many of the best candidates for each place of the answer."""
CAP_UNKNOWN = "cap_unknown"
"""The experiment caps an item field that the bundle does not have."""
POLICY_CAP = "policy"
"""Name of the cap that an experiment sets."""

Vectors = Callable[[Int64], NDArray[np.float32]]
"""Vectors [N, D] of rows, by which items are alike."""

_NOBODY: Int64 = np.empty(0, dtype=np.int64)


class _Candidates(NamedTuple):
    """All that may be in the answer: candidates best first, then pinned items that are none."""

    rows_N: Int64
    values_N: Float64
    pinned: dict[int, Pick]
    """By position."""
    pinned_M: Int64
    """The same, as places in `rows_N`."""
    boosts: tuple[tuple[str, NDArray[np.bool_]], ...]
    """By name, which of `rows_N` a boost moved."""


class Reranker:
    """Orders the candidates of one bundle."""

    def __init__(
        self,
        bundle: str,
        items: Items,
        fields: Sequence[CategoricalField],
        vectors: Vectors,
        rulebook: Rulebook,
    ) -> None:
        """Order by the rules of `rulebook`, as they are at each request.

        Args:
            bundle: its name, for the log.
            items: prices, availability and fields.
            fields: item fields of the bundle's schema, which rules and caps name.
            vectors: gives the vectors of rows.
            rulebook: the rules in force.
        """
        self._bundle = bundle
        self._items = items
        self._fields = tuple(fields)
        self._vectors = vectors
        self._rulebook = rulebook
        self._compiled: BundleRules | None = None
        self._compiled_of: tuple[Rules, int] | None = None

    def ruling(self, context: Mapping[str, str], ts_us: int) -> Ruling:
        """The rules that hold for a request; ask once, before recall, and give it to `order`."""
        rules, known = self._rulebook.rules, len(self._items.index)
        compiled, of = self._compiled, self._compiled_of
        # Looked up again when an item came: a rule may have waited for it.
        if compiled is None or of is None or of[0] is not rules or of[1] != known:
            compiled = BundleRules(rules, self._bundle, self._items, self._fields)
            self._compiled, self._compiled_of = compiled, (rules, known)
        return compiled.ruling(context, ts_us)

    def order(
        self,
        rows_N: Int64,
        scores_N: NDArray[np.float32],
        *,
        num: int,
        policy: Policy,
        ruling: Ruling = NO_RULES,
        excluded_rows: Int64 = _NOBODY,
        ranked: bool = True,
    ) -> Reranked:
        """The answer's items out of ranked candidates.

        Args:
            rows_N: distinct rows that may be shown, in any order; of equal ones the first wins.
            scores_N: their finite scores.
            num: items the answer shall have; fewer where there are fewer candidates.
            policy: exponents of the value, diversity, caps.
            ruling: the rules that hold.
            excluded_rows: that must not be shown, so not be pinned either.
            ranked: the scores are logits of a ranking stage. If not, no probability follows from
                them, and the answer had to be cheap: exponents and diversity are left aside, the
                order of the scores is that of value, and rules and caps hold as ever.
        """
        by = Exponents(policy.probability_exponent, policy.price_exponent) if ranked else RANKING
        capped = bool(policy.cap_field) and policy.cap > 0
        diverse = ranked and policy.diversity != "none" and policy.diversity_strength > 0
        if ruling is NO_RULES and by == RANKING and not capped and not diverse:
            best_K = np.argsort(-scores_N, kind="stable")[:num]
            return Reranked(rows_N[best_K], scores_N[best_K], ((),) * len(best_K))
        found = self._candidates(rows_N, scores_N, by, ruling, excluded_rows, num)
        caps, unknown = self._caps(found.rows_N, policy, ruling)
        choice = Choice(len(found.rows_N), caps)
        for candidate in found.pinned_M.tolist():
            choice.reserve(candidate)
        wanted = num - len(found.pinned)
        if diverse:
            self._diversify(choice, found, policy, num, wanted)
        choice.by_value(wanted - len(choice.picks))
        broken = choice.break_caps(wanted - len(choice.picks))
        order = arranged(choice.picks, found.pinned, num)
        degraded = (*ruling.degraded, *unknown, *(f"{CAP_BROKEN}:{name}" for name in broken))
        return _reranked(found, order, degraded)

    def _candidates(
        self,
        rows_N: Int64,
        scores_N: NDArray[np.float32],
        by: Exponents,
        ruling: Ruling,
        excluded_rows: Int64,
        num: int,
    ) -> _Candidates:
        if ruling.blocks:
            open_N = ~self._blocked(rows_N, ruling)
            rows_N, scores_N = rows_N[open_N], scores_N[open_N]
        masks = [boost.meant.mask(rows_N, self._items) for boost in ruling.boosts]
        if by == RANKING and not any(mask_N.any() for mask_N in masks):
            values_N = scores_N.astype(np.float64)
        else:
            values_N = log_values(scores_N, self._items.price_micros_R[rows_N], by)
            for boost, mask_N in zip(ruling.boosts, masks, strict=True):
                values_N[mask_N] += boost.log_factor
        # Probabilities so close to 1 that they are equal are told apart by their logits.
        best_N = np.lexsort((-scores_N, -values_N))
        rows_N, values_N = rows_N[best_N], values_N[best_N]
        boosts = tuple(
            (f"boost:{boost.name}", mask_N[best_N])
            for boost, mask_N in zip(ruling.boosts, masks, strict=True)
        )
        if not ruling.pins:
            return _Candidates(rows_N, values_N, {}, _NOBODY, boosts)
        return self._with_pins(
            _Candidates(rows_N, values_N, {}, _NOBODY, boosts), ruling, excluded_rows, num
        )

    def _with_pins(
        self, found: _Candidates, ruling: Ruling, excluded_rows: Int64, num: int
    ) -> _Candidates:
        allowed = self._pinnable(ruling, excluded_rows)
        place = {row: n for n, row in enumerate(found.rows_N.tolist())}
        known = len(place)
        pinned: dict[int, Pick] = {}
        taken: set[int] = set()
        for pin in ruling.pins:
            position = pin.position
            while position in pinned:
                position += 1
            if pin.row in taken or pin.row not in allowed or position >= num:
                continue
            taken.add(pin.row)
            candidate = place.setdefault(pin.row, len(place))
            pinned[position] = Pick(candidate, (f"pin:{pin.name}",))
        added = list(place)[known:]
        # What no stage scored is worth as much as the least of what they did.
        least = found.values_N.min() if known else 0.0
        return _Candidates(
            np.concatenate([found.rows_N, np.array(added, dtype=np.int64)]),
            np.concatenate([found.values_N, np.full(len(added), least)]),
            pinned,
            np.array([pick.candidate for pick in pinned.values()], dtype=np.int64),
            tuple((name, np.pad(mask, (0, len(added)))) for name, mask in found.boosts),
        )

    def _pinnable(self, ruling: Ruling, excluded_rows: Int64) -> set[int]:
        rows_M = np.array([pin.row for pin in ruling.pins], dtype=np.int64)
        allowed_M = self._items.available_R[rows_M] & ~np.isin(rows_M, excluded_rows)
        allowed_M &= ~self._blocked(rows_M, ruling)
        return set(rows_M[allowed_M].tolist())

    def _blocked(self, rows_N: Int64, ruling: Ruling) -> NDArray[np.bool_]:
        blocked_N = np.zeros(len(rows_N), dtype=np.bool_)
        for block in ruling.blocks:
            blocked_N |= block.meant.mask(rows_N, self._items)
        return blocked_N

    def _caps(self, rows_N: Int64, policy: Policy, ruling: Ruling) -> tuple[Caps, tuple[str, ...]]:
        caps = [Cap(c.name, self._items.fields[c.field][rows_N], c.most) for c in ruling.caps]
        if not policy.cap_field or policy.cap == 0:
            return Caps(caps), ()
        if policy.cap_field not in self._items.fields:
            return Caps(caps), (f"{CAP_UNKNOWN}:{policy.cap_field}",)
        codes_N = self._items.fields[policy.cap_field][rows_N]
        return Caps([*caps, Cap(POLICY_CAP, codes_N, policy.cap)]), ()

    def _diversify(
        self, choice: Choice, found: _Candidates, policy: Policy, num: int, wanted: int
    ) -> None:
        """Choose from a pool of the best, as different from the pinned items as from each other."""
        pool_P = np.concatenate([choice.free()[: POOL_PER_PLACE * num], found.pinned_M])
        units_PD = unit_vectors(self._vectors(found.rows_N[pool_P]))
        relevance_P = relevance(found.values_N[pool_P])
        measure: Diversity
        if policy.diversity == "mmr":
            measure = Mmr(relevance_P, units_PD, policy.diversity_strength)
        else:
            measure = Dpp(relevance_P, units_PD, policy.diversity_strength, most=num)
        for pinned in range(len(pool_P) - len(found.pinned_M), len(pool_P)):
            measure.take(pinned)
        choice.diverse(measure, pool_P, wanted)


def _reranked(found: _Candidates, order: Sequence[Pick], degraded: tuple[str, ...]) -> Reranked:
    chosen_K = np.array([pick.candidate for pick in order], dtype=np.int64)
    boosts = [(name, mask_N[chosen_K].tolist()) for name, mask_N in found.boosts]
    return Reranked(
        found.rows_N[chosen_K],
        found.values_N[chosen_K].astype(np.float32),
        tuple(
            (*pick.rules, *(name for name, moved_K in boosts if moved_K[position]))
            for position, pick in enumerate(order)
        ),
        degraded,
    )
