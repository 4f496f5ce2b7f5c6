"""Indexes: how much of the exact answer they find, how long a query takes, and what they hold.

Items are drawn in clusters (`workload.py`); a query is the mean of a user's history, as the served
first stage has it.

Legend: I items, D width, Q queries, K recalled items.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from benchmarks.hardware import cores
from benchmarks.serving import mapped
from benchmarks.serving.plan import IndexSizes
from benchmarks.serving.workload import Float32, Int64, clustered, histories
from training.config import IndexConfig
from training.index import build_index

HISTORY = 50
QUANTISED = "IVF-SQ8"
"""As `training/index.py` builds it, which also chooses how many cells to look into."""
LINKS = 16
EFFORTS = (600, 1_200)
"""Candidates that a search through the small world keeps."""

Tick = Callable[[str], None]


class Searched(NamedTuple):
    """An index at one effort."""

    name: str
    recall: float
    """Share of the exact K that it finds."""
    query_ms: float
    """Median over queries and rounds, one query a call, one thread."""
    built_s: float
    megabytes: float
    """Of the file."""


class Case(NamedTuple):
    """An index, how to set its effort, and which efforts there are."""

    name: str
    structure: faiss.Index
    efforts: tuple[tuple[str, str, int], ...]
    """What to say, name of the parameter, value."""
    built_s: float


class Indexes(NamedTuple):
    """All of the part on indexes."""

    searched: list[Searched]
    memory: list[mapped.Held]


def measure(sizes: IndexSizes, environment: Mapping[str, str], root: Path, tick: Tick) -> Indexes:
    """Build every index, search in turn, and look at the memory of the one that is mapped."""
    tick("index: drawing vectors")
    rng = np.random.default_rng(0)
    items_ID, cluster_I = clustered(sizes.items, sizes.width, rng)
    rows_QL = histories(cluster_I, 2 * sizes.queries, HISTORY, rng)
    both_QD = np.ascontiguousarray(items_ID[rows_QL - 1].mean(axis=1))
    queries_QD, learnt_QD = both_QD[: sizes.queries], both_QD[sizes.queries :]
    cases = list(_build(items_ID, learnt_QD, sizes, tick))
    tick("index: searching")
    _, exact_QK = cases[0].structure.search(queries_QD, sizes.recalled)
    with tempfile.TemporaryDirectory() as folder:
        searched = list(_search(cases, queries_QD, exact_QK, sizes, Path(folder)))
        tick("index: memory")
        np.save(Path(folder) / "queries.npy", queries_QD)
        quantised = next(case for case in cases if case.name == QUANTISED)
        path = Path(folder) / "mapped.faiss"
        faiss.write_index(quantised.structure, str(path))
        memory = mapped.measure(path, Path(folder) / "queries.npy", sizes, environment, root)
    return Indexes(searched, memory)


def _build(items_ID: Float32, learnt_QD: Float32, sizes: IndexSizes, tick: Tick) -> Iterator[Case]:
    D, inner = items_ID.shape[1], faiss.METRIC_INNER_PRODUCT
    faiss.omp_set_num_threads(cores())
    tick("index: flat")
    yield _filled("flat", faiss.IndexFlatIP(D), items_ID, (("", "", 0),))
    tick("index: IVF-SQ8")
    started_s = time.perf_counter()
    built = build_index(items_ID, learnt_QD, sizes.recalled, IndexConfig(kind="ivf"))
    taken_s = time.perf_counter() - started_s
    cells = faiss.extract_index_ivf(built.faiss_index)
    probes = tuple((f", nprobe {n}", "nprobe", n) for n in sizes.probes)
    chosen = (f", nprobe {cells.nprobe} as exported", "nprobe", int(cells.nprobe))
    yield Case(QUANTISED, built.faiss_index, (*probes, chosen), taken_s)
    tick("index: IVF-Flat")
    # The same cells, which were learnt already.
    plain = faiss.IndexIVFFlat(cells.quantizer, D, cells.nlist, inner)
    yield _filled("IVF-Flat", plain, items_ID, probes)
    tick("index: HNSW")
    efforts = tuple((f", ef {n}", "efSearch", n) for n in EFFORTS)
    yield _filled(f"HNSW{LINKS}", faiss.IndexHNSWFlat(D, LINKS, inner), items_ID, efforts)


def _filled(
    name: str, index: faiss.Index, items_ID: Float32, efforts: tuple[tuple[str, str, int], ...]
) -> Case:
    started_s = time.perf_counter()
    index.train(items_ID)
    index.add(items_ID)
    return Case(name, index, efforts, time.perf_counter() - started_s)


def _search(
    cases: list[Case], queries_QD: Float32, exact_QK: Int64, sizes: IndexSizes, folder: Path
) -> Iterator[Searched]:
    """Rounds over all indexes and efforts, in an order drawn anew every round."""
    faiss.omp_set_num_threads(1)
    settings = [(case, effort) for case in cases for effort in case.efforts]
    times: dict[str, list[float]] = {}
    recalls: dict[str, float] = {}
    shuffle = random.Random(0)
    for _ in range(sizes.rounds):
        for case, effort in shuffle.sample(settings, len(settings)):
            _set(case.structure, effort)
            name = case.name + effort[0]
            found_QK, taken_s = _one_by_one(case.structure, queries_QD, sizes.recalled)
            times.setdefault(name, []).extend(taken_s)
            recalls[name] = _recall(found_QK, exact_QK)
    for case, effort in settings:
        path = folder / f"{case.name}.faiss"
        if not path.exists():
            faiss.write_index(case.structure, str(path))
        name = case.name + effort[0]
        yield Searched(
            name,
            recalls[name],
            statistics.median(times[name]) * 1e3,
            case.built_s,
            path.stat().st_size / 1e6,
        )


def _one_by_one(index: faiss.Index, queries_QD: Float32, K: int) -> tuple[Int64, list[float]]:
    found, taken_s = [], []
    for query_D in queries_QD:
        started_s = time.perf_counter()
        _, places_1K = index.search(query_D[None, :], K)
        taken_s.append(time.perf_counter() - started_s)
        found.append(places_1K[0])
    return np.stack(found), taken_s


def _recall(found_QK: Int64, exact_QK: Int64) -> float:
    pairs = zip(found_QK, exact_QK, strict=True)
    return float(np.mean([np.isin(found_K, exact_K).mean() for found_K, exact_K in pairs]))


def _set(index: faiss.Index, effort: tuple[str, str, int]) -> None:
    _, parameter, value = effort
    if parameter:
        faiss.ParameterSpace().set_index_parameter(index, parameter, value)
