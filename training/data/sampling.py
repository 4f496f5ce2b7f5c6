"""Candidates to train on: for each stage, what it meets when it serves.

Retrieval meets the whole catalogue: its list is what was newly bought, and random items. Ranking
meets what retrieval recalls and what the user's own past adds: its list is what was bought, some of
the past, and some of what retrieval recalls at this moment of the training. A ranker that trains on
random items instead learns to find a threshold where no request ever has one.

Negatives are a sample, each kind at its own rate. `log_rate` is what sampling takes from the log
odds of being bought ("logQ" in Yi et al. 2019); subtracted from the scores while training, it
leaves scores that compare everything the stage meets.

A log of answers knows better what ranking met: its list is then what was seen, bought or not, and
a few items that ranking dropped, which count as not bought. They were not seen, so that is a guess;
it keeps the ranker from thinking well of what it was never shown.

The papers of cascade losses score one list with all stages. A shared list is that of ranking, and
random items of the rest of the catalogue, which stand for what retrieval drops.

Legend: B requests, N candidates, P positives, L history, K recalled.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.config import CandidateConfig
from training.data.dataset import Arrays
from training.data.logged import Depth, Logged
from training.features import OOV

Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


class CandidateList(NamedTuple):
    """N candidates of one stage for each of B requests; the first P are what was bought."""

    rows_BN: Tensor
    """int64 item rows, `OOV` in the padding."""
    labels_BN: Tensor
    """bool, bought."""
    competes_BN: Tensor
    """bool, the stage decides about it. Not padding, for one."""
    log_rate_BN: Tensor
    """float32, log of the rate at which the item is drawn when it is not bought, less that when it
    is; 0 is every time."""


class Candidates(NamedTuple):
    """What each stage trains on; one list for both where the configuration says so."""

    retrieval: CandidateList
    """Bought items that are new to the user, and random ones."""
    rank: CandidateList
    """Bought, past and recalled items. Bought ones that are neither past nor recalled stand here
    without competing: ranking never sees them. So do the random ones of a list that is shared."""
    in_history_BN: Tensor
    """bool over the list of ranking, the user interacted with the item before."""


class _Met(NamedTuple):
    """What ranking met, the first P of each line what was bought."""

    rows: Int64
    reaches: Bool
    rate: Float32
    """At which an item is drawn if it was not bought."""


class CandidateSampler:
    """Draws candidates for training requests."""

    def __init__(
        self,
        arrays: Arrays,
        train_purchases: int,
        config: CandidateConfig,
        seed: int | np.random.Generator,
        logged: Logged | None = None,
    ) -> None:
        """Fit the popularity of random negatives.

        Args:
            arrays: the dataset.
            train_purchases: time before which purchases count towards popularity, microseconds.
            config: how many of each kind.
            seed: seeds the draws, or the generator to draw from.
            logged: what became of the requests, where the dataset was made of events.
        """
        self._arrays = arrays
        self._logged = logged
        self._config = config
        self._random = np.random.default_rng(seed)
        self._items = len(arrays.item_fields)
        rows = arrays.purchase_rows[arrays.purchase_ts_us < train_purchases]
        counts = np.bincount(rows, minlength=self._items).astype(np.float64)
        counts[OOV] = 0
        share = 0.5 * counts / counts.sum() + 0.5 / (self._items - 1)
        share[OOV] = 0
        self._cumulative = np.cumsum(share)
        drawn = -np.expm1(config.random_negatives * np.log1p(-share))
        self._log_drawn = np.log(np.maximum(drawn, 1e-12)).astype(np.float32)

    def draw(self, requests: Int64, history_rows_BL: Int64, recalled_rows_BK: Int64) -> Candidates:
        """Draw candidates.

        Args:
            requests: int64 [B], indices of requests.
            history_rows_BL: int64 [B, L], their histories, padded with `OOV`.
            recalled_rows_BK: int64 [B, K], what retrieval recalls for them now.
        """
        history = np.sort(history_rows_BL, axis=1)
        truth, truth_keys = self._truth(requests)
        history_keys = self._keys(history).ravel()
        positives, kept = self._positives(truth)
        log_kept = np.log(kept)[:, None]
        recalled_keys = np.sort(self._keys(recalled_rows_BK), axis=1).ravel()

        if self._logged is None:
            met = self._recalled_and_past(
                positives, history, recalled_rows_BK, truth_keys, history_keys, recalled_keys
            )
        else:
            met = self._answered(self._logged, requests, positives, truth_keys)
        random = self._random_items(len(requests), truth_keys, history_keys)
        rank = _candidate_list(met.rows, positives, met.reaches, np.log(met.rate) - log_kept)
        in_history = _contains(history_keys, self._keys(met.rows)) & (met.rows != OOV)

        if self._config.shared:
            lost = np.where(_contains(recalled_keys, self._keys(random)), OOV, random)
            both = _with_lost(rank, lost, self._log_drawn[lost] - log_kept)
            return Candidates(both, both, _padded(torch.from_numpy(in_history), lost.shape[1]))
        rows = np.concatenate([positives, random], axis=1)
        new = (rows != OOV) & ~_contains(history_keys, self._keys(rows))
        retrieval = _candidate_list(rows, positives, new, self._log_drawn[rows] - log_kept)
        return Candidates(retrieval, rank, torch.from_numpy(in_history))

    def _recalled_and_past(
        self,
        positives: Int64,
        history: Int64,
        recalled_rows_BK: Int64,
        truth_keys: Int64,
        history_keys: Int64,
        recalled_keys: Int64,
    ) -> _Met:
        """What retrieval would bring to ranking now."""
        past, past_rate = self._past(history, truth_keys)
        recalled, recalled_rate = self._recalled(recalled_rows_BK, truth_keys, history_keys)
        rows = np.concatenate([positives, past, recalled], axis=1)
        in_history = _contains(history_keys, self._keys(rows)) & (rows != OOV)
        reaches = in_history | (_contains(recalled_keys, self._keys(rows)) & (rows != OOV))
        rate = np.where(in_history, past_rate[:, None], recalled_rate[:, None])
        return _Met(rows, reaches, rate)

    def _answered(
        self, logged: Logged, requests: Int64, positives: Int64, truth_keys: Int64
    ) -> _Met:
        """What ranking met when the requests were answered, as far as anything is known of it."""
        entries, depths = _entries(logged, requests)
        seen = (depths == Depth.SEEN) & ~_contains(truth_keys, self._keys(entries))
        refused = self._choose(entries, seen, self._config.recalled_negatives)
        refused_rate = self._config.recalled_negatives / np.maximum(seen.sum(axis=1), 1)
        dropped = self._choose(
            entries, depths == Depth.DROPPED_BY_RANK, self._config.dropped_negatives
        )
        rows = np.concatenate([positives, refused, dropped], axis=1)
        rate = np.ones(rows.shape, dtype=np.float32)
        rate[:, : positives.shape[1] + refused.shape[1]] = np.minimum(refused_rate, 1)[:, None]
        return _Met(rows, rows != OOV, rate)

    def _keys(self, rows_BX: Int64) -> Int64:
        """A number for each pair of request and item, ascending where the rows are."""
        return rows_BX + np.arange(len(rows_BX), dtype=np.int64)[:, None] * self._items

    def _truth(self, requests: Int64) -> tuple[Int64, Int64]:
        """Bought items of each request, padded with `OOV`, and all their keys, ascending."""
        starts = self._arrays.truth_starts[requests]
        lengths = self._arrays.truth_starts[requests + 1] - starts
        offsets = np.arange(int(lengths.max(initial=1)))
        inside = offsets < lengths[:, None]
        positions = np.where(inside, starts[:, None] + offsets, 0)
        truth = np.where(inside, self._arrays.truth_rows[positions], OOV).astype(np.int64)
        return truth, self._keys(truth)[inside]

    def _positives(self, truth: Int64) -> tuple[Int64, Float32]:
        """At most P bought items a request, and the share of all bought that they are."""
        bought = (truth != OOV).sum(axis=1)
        chosen = self._choose(truth, truth != OOV, self._config.positives)
        share = np.minimum(1.0, self._config.positives / np.maximum(bought, 1))
        return chosen, share.astype(np.float32)

    def _past(self, history: Int64, truth_keys: Int64) -> tuple[Int64, Float32]:
        """At most H items of the history that were not bought, and the rate of their drawing."""
        eligible = history != OOV
        eligible[:, 1:] &= history[:, 1:] != history[:, :-1]
        eligible &= ~_contains(truth_keys, self._keys(history))
        chosen = self._choose(history, eligible, self._config.history_negatives)
        rate = self._config.history_negatives / np.maximum(eligible.sum(axis=1), 1)
        return chosen, np.clip(rate, 1e-6, 1.0).astype(np.float32)

    def _recalled(
        self, recalled: Int64, truth_keys: Int64, history_keys: Int64
    ) -> tuple[Int64, Float32]:
        """Some recalled items, neither bought nor past, and the rate of their drawing."""
        keys = self._keys(recalled)
        eligible = ~_contains(truth_keys, keys) & ~_contains(history_keys, keys)
        chosen = self._choose(recalled, eligible, self._config.recalled_negatives)
        rate = self._config.recalled_negatives / np.maximum(eligible.sum(axis=1), 1)
        return chosen, np.clip(rate, 1e-6, 1.0).astype(np.float32)

    def _random_items(self, requests: int, truth_keys: Int64, history_keys: Int64) -> Int64:
        size = (requests, self._config.random_negatives)
        rows = np.searchsorted(self._cumulative, self._random.random(size), side="right")
        rows = np.sort(np.clip(rows, 1, self._items - 1), axis=1)
        rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = OOV  # drawn twice is drawn
        keys = self._keys(rows)
        return np.where(_contains(truth_keys, keys) | _contains(history_keys, keys), OOV, rows)

    def _choose(self, rows: Int64, eligible: Bool, most: int) -> Int64:
        """Uniformly `most` eligible entries a line without replacement, padded with `OOV`."""
        order = self._random.random(rows.shape, dtype=np.float32)
        order[~eligible] = 2.0
        if rows.shape[1] > most:
            columns = np.argpartition(order, most, axis=1)[:, :most]
            rows = np.take_along_axis(rows, columns, axis=1)
            eligible = np.take_along_axis(eligible, columns, axis=1)
        return np.where(eligible, rows, OOV)


def _entries(logged: Logged, requests: Int64) -> tuple[Int64, NDArray[np.int8]]:
    """Logged rows of each request, padded with `OOV`, and their depths."""
    starts = logged.starts[requests]
    lengths = logged.starts[requests + 1] - starts
    offsets = np.arange(int(lengths.max(initial=1)))
    inside = offsets < lengths[:, None]
    positions = np.where(inside, starts[:, None] + offsets, 0)
    rows = np.where(inside, logged.rows[positions], OOV).astype(np.int64)
    return rows, np.where(inside, logged.depths[positions], -1).astype(np.int8)


def _candidate_list(
    rows: Int64, positives: Int64, competes: Bool, log_rate: NDArray[np.floating[Any]]
) -> CandidateList:
    labels = np.zeros(rows.shape, dtype=np.bool_)
    labels[:, : positives.shape[1]] = positives != OOV
    return CandidateList(
        rows_BN=torch.from_numpy(rows),
        labels_BN=torch.from_numpy(labels),
        competes_BN=torch.from_numpy(competes),
        log_rate_BN=torch.from_numpy(log_rate.astype(np.float32)),
    )


def _with_lost(met: CandidateList, lost: Int64, log_rate: Float32) -> CandidateList:
    """The list of ranking, and items behind it that were not bought and do not reach ranking."""
    return CandidateList(
        rows_BN=torch.cat([met.rows_BN, torch.from_numpy(lost)], dim=1),
        labels_BN=_padded(met.labels_BN, lost.shape[1]),
        competes_BN=_padded(met.competes_BN, lost.shape[1]),
        log_rate_BN=torch.cat([met.log_rate_BN, torch.from_numpy(log_rate)], dim=1),
    )


def _padded(flags_BN: Tensor, columns: int) -> Tensor:
    return torch.nn.functional.pad(flags_BN, (0, columns))


def _contains(ascending: Int64, keys: Int64) -> Bool:
    if len(ascending) == 0:
        return np.zeros(keys.shape, dtype=np.bool_)
    places = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    found: Bool = ascending[places] == keys
    return found
