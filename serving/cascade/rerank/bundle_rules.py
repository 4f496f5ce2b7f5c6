"""Bundle rules: the rules of a file, looked up in the rows and codes of one bundle.

Legend: R rows of a bundle, C codes of a field.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from serving.cascade.items import Items, Mask
from serving.cascade.rerank.rules import Block, Boost, CapRule, Pin, Rule, Rules
from serving.cascade.rerank.ruling import (
    NO_RULES,
    Blocked,
    Boosted,
    CappedField,
    Meant,
    PinnedRow,
    Ruling,
)
from training.features import OOV, CategoricalField, Int64, to_ts_us

RULE_UNKNOWN = "rule_unknown"
"""A rule names a field, or a value of it, that the bundle does not know: it cannot be kept."""
_REMEMBERED = 64
"""Combinations of blocks whose rows are kept."""

logger = logging.getLogger(__name__)

_Compiled = TypeVar("_Compiled")


class _Times(NamedTuple):
    """When a rule holds."""

    start_us: float
    end_us: float
    context: tuple[tuple[str, frozenset[str]], ...]


_Timed = list[tuple[_Times, _Compiled]]


class BundleRules:
    """The rules of a file as one bundle understands them."""

    def __init__(
        self, rules: Rules, bundle: str, items: Items, fields: Sequence[CategoricalField]
    ) -> None:
        """Look up what the rules name; what the bundle does not know is logged."""
        self._bundle = bundle
        self._items = items
        self._fields = {field.name: field for field in fields if field.name in items.fields}
        self._incomplete: set[str] = set()
        self._blocked_rows: dict[tuple[str, ...], Int64] = {}
        self._pins = [(_times(r), pinned) for r in rules.pins if (pinned := self._pin(r))]
        self._boosts = [(_times(r), self._boost(r)) for r in rules.boosts]
        self._caps = [(_times(r), self._cap(r)) for r in rules.caps]
        self._blocks = [(_times(r), Blocked(r.name, self._meant(r))) for r in rules.blocks]
        self._any = bool(self._pins or self._boosts or self._caps or self._blocks)

    def ruling(self, context: Mapping[str, str], ts_us: int) -> Ruling:
        """The rules that hold in a context at a time."""
        if not self._any:
            return NO_RULES
        pins = _holding(self._pins, context, ts_us)
        boosts = _holding(self._boosts, context, ts_us)
        caps = _holding(self._caps, context, ts_us)
        blocks = _holding(self._blocks, context, ts_us)
        if not (pins or boosts or caps or blocks):
            return NO_RULES
        names = [*(r.name for r in boosts), *(r.name for r in caps), *(r.name for r in blocks)]
        return Ruling(
            pins=pins,
            boosts=boosts,
            caps=tuple(cap for cap in caps if cap.field in self._fields),
            blocks=blocks,
            blocked_rows=self._rows(blocks),
            degraded=tuple(f"{RULE_UNKNOWN}:{name}" for name in names if name in self._incomplete),
        )

    def _rows(self, blocks: tuple[Blocked, ...]) -> Int64:
        names = tuple(block.name for block in blocks)
        if names not in self._blocked_rows:
            if len(self._blocked_rows) == _REMEMBERED:
                self._blocked_rows.clear()
            every_R = np.arange(len(self._items), dtype=np.int64)
            blocked_R = np.zeros(len(self._items), dtype=np.bool_)
            for block in blocks:
                blocked_R |= block.meant.mask(every_R, self._items)
            self._blocked_rows[names] = np.flatnonzero(blocked_R)
        return self._blocked_rows[names]

    def _pin(self, pin: Pin) -> PinnedRow | None:
        row = self._items.index.row(pin.item)
        if row == OOV:
            self._miss(pin, f"item {pin.item!r}")
            return None
        return PinnedRow(pin.name, row, pin.position)

    def _boost(self, boost: Boost) -> Boosted:
        return Boosted(boost.name, math.log(boost.factor), self._meant(boost))

    def _cap(self, cap: CapRule) -> CappedField:
        if cap.field not in self._fields:
            self._incomplete.add(cap.name)
            self._miss(cap, f"item field {cap.field!r}")
        return CappedField(cap.name, cap.field, cap.most)

    def _meant(self, rule: Boost | Block) -> Meant:
        index = self._items.index
        missing = [item for item in rule.items if index.row(item) == OOV]
        if missing:
            self._miss(rule, f"items {missing[:5]}")
        rows = {index.row(item) for item in rule.items} - {OOV}
        listed = np.array(sorted(rows), dtype=np.int64)
        codes = []
        for name, values in rule.fields.items():
            field = self._fields.get(name)
            unknown = [v for v in values if field is None or field.encode(v) == OOV]
            if unknown:
                self._incomplete.add(rule.name)
                self._miss(rule, f"values {unknown[:5]} of item field {name!r}")
            if field is None:
                # No item has a value of this field, so none has all that the rule asks for.
                return Meant(listed, ())
            codes.append((name, _meant_codes(field, values)))
        return Meant(listed, tuple(codes))

    def _miss(self, rule: Rule, what: str) -> None:
        logger.warning("rule %s: bundle %s does not know %s", rule.name, self._bundle, what)


def _meant_codes(field: CategoricalField, values: Sequence[str]) -> Mask:
    meant_C = np.zeros(field.cardinality, dtype=np.bool_)
    meant_C[[field.encode(value) for value in values]] = True
    meant_C[OOV] = False
    return meant_C


def _times(rule: Rule) -> _Times:
    return _Times(
        -math.inf if rule.start is None else to_ts_us(rule.start),
        math.inf if rule.end is None else to_ts_us(rule.end),
        tuple((name, frozenset(values)) for name, values in rule.context.items()),
    )


def _holding(
    timed: _Timed[_Compiled], context: Mapping[str, str], ts_us: int
) -> tuple[_Compiled, ...]:
    return tuple(
        rule
        for times, rule in timed
        if times.start_us <= ts_us < times.end_us
        and all(context.get(name) in values for name, values in times.context)
    )
