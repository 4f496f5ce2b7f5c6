"""A large archive, written as Parquet straight: what users were shown and did over two weeks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from abtest.log.columns import SCHEMA

Int64 = NDArray[np.int64]

KEY: Final = "ranker"
VARIANTS: Final = ("old", "new")
FILE_EVENTS: Final = 10_000
"""As many as the archive writes in one file."""

_DAY_US: Final = 86_400 * 10**6
_START_DAY: Final = 20_454
"""2026-01-01, in days since the Unix epoch."""
_ITEMS: Final = 20
_LATER_US: Final = 3 * 3600 * 10**6
"""Feedback comes at most so much later: some of it the next day."""
_LAYERS: Final = (KEY, "recall", "history")
_PARAMETERS: Final = ("popular_candidates", "recall_keep", "history_candidates")
"""What the experiment of each layer is about."""
_EXPERIMENT: Final = """
[[layers]]
name = "{layer}"
seed = "{layer}"

[[layers.experiments]]
key = "{layer}"
revision = 1
state = "running"
control = "old"
variants = [
    {{ name = "old", weight = 0.5, params = {{ {parameter} = 10 }} }},
    {{ name = "new", weight = 0.5, params = {{ {parameter} = 20 }} }},
]
segments = ["country"]
planned_units = 200_000
"""
_DEFAULTS: Final = """
version = 1

[defaults]
bundle = "mlp"
popular_candidates = 10
recall_keep = 10
history_candidates = 10
"""
EXPERIMENTS: Final = _DEFAULTS + "".join(
    _EXPERIMENT.format(layer=layer, parameter=parameter)
    for layer, parameter in zip(_LAYERS, _PARAMETERS, strict=True)
)
_COUNTRIES: Final = np.array(["AT", "CH", "DE", "FR", "IT"])
_SHARES: Final = {"impression": 0.97, "click": 0.2, "conversion": 0.03}
"""Of the recommended items."""
_REPEATED: Final = 0.001
"""Share of the events that stand in two files."""


class Size(NamedTuple):
    """How much there is."""

    answers: int = 400_000
    units: int = 200_000
    days: int = 14


def write(folder: Path, size: Size, seed: int) -> int:
    """Write the archive; returns its number of different events."""
    generator = np.random.default_rng(seed)
    written = 0
    late: pa.Table = SCHEMA.empty_table()
    for day in range(size.days + 1):
        end = (_START_DAY + day + 1) * _DAY_US
        came = [_events(generator, size, day)] if day < size.days else []
        table = pa.concat_tables([late, *came])
        table = table.take(pc.sort_indices(table["event_ts_us"]))
        today = pc.less(table["event_ts_us"], end)
        late = table.filter(pc.invert(today))
        table = table.filter(today)
        _write_day(folder / f"day={np.datetime64(_START_DAY + day, 'D')}", table, generator)
        written += table.num_rows
    return written


def _write_day(folder: Path, table: pa.Table, generator: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for number, first in enumerate(range(0, table.num_rows, FILE_EVENTS)):
        some = table.slice(first, FILE_EVENTS)
        before = table.slice(0, first)
        count = min(int(_REPEATED * some.num_rows), before.num_rows)
        again = before.take(generator.integers(before.num_rows, size=count)) if count else before
        part = pa.concat_tables([some, again.slice(0, count)])
        pq.write_table(part, folder / f"1-{number}-1-{number}.parquet", compression="zstd")


def _events(generator: np.random.Generator, size: Size, day: int) -> pa.Table:
    """A day's answers and what was done with them."""
    count = size.answers // size.days
    start = (_START_DAY + day) * _DAY_US
    ts = np.sort(generator.integers(start, start + _DAY_US, count))
    units = generator.integers(size.units, size=count)
    requests = np.arange(count) + day * count
    items = generator.integers(50_000, size=(count, _ITEMS))
    tables = [_answers(generator, ts, units, requests, items)]
    seen = generator.random(items.shape) < _SHARES["impression"]
    for name, share in _SHARES.items():
        taken = seen & (generator.random(items.shape) < share / _SHARES["impression"])
        at, position = np.nonzero(taken)
        later = ts[at] + generator.integers(_LATER_US, size=len(at))
        feedback = _columns(name, later, units[at], requests[at])
        names = np.char.add("i", items[at, position].astype(str))
        feedback |= {"item_id": pa.array(names), "position": pa.array(position)}
        if name == "conversion":
            feedback |= _money(generator, units[at])
        tables.append(_table(feedback))
    return pa.concat_tables(tables)


def _answers(
    generator: np.random.Generator, ts: Int64, units: Int64, requests: Int64, items: Int64
) -> pa.Table:
    count = len(ts)
    degraded = generator.random(count) < 0.01
    ends = np.concatenate(([0], np.cumsum(degraded)))
    reasons = pa.array(["features_stale"] * int(degraded.sum()), pa.string())
    names = pa.array(np.char.add("i", items.astype(str)).ravel())
    countries = pa.array(_COUNTRIES[units // 8 % len(_COUNTRIES)].astype(str))
    each = pa.array(np.arange(count + 1, dtype=np.int32))
    answers = _columns("ranking", ts, units, requests)
    answers |= {
        "bundle": pa.array(["shop@1"] * count),
        "item_ids": pa.ListArray.from_arrays(_offsets(np.arange(count + 1) * _ITEMS), names),
        "latency_us": pa.array(generator.lognormal(9, 0.4, count).astype(np.int64)),
        "degraded": pa.ListArray.from_arrays(_offsets(ends), reasons),
        "context": pa.MapArray.from_arrays(each, pa.array(["country"] * count), countries),
    }
    return _table(answers)


def _money(generator: np.random.Generator, units: Int64) -> dict[str, pa.Array]:
    price = generator.lognormal(1.5, 0.8, len(units)) * (1 + 0.1 * (units % 2))
    micros = (price * 100).astype(np.int64) * 10_000
    return {
        "revenue_micros": pa.array(micros),
        "currency": pa.array(["USD"] * len(units)),
    }


def _columns(name: str, ts: Int64, units: Int64, requests: Int64) -> dict[str, pa.Array]:
    """What every event has; ids begin with the time, as those of the log do."""
    first = int(requests[0])
    ids = [f"{t // 1000:012x}{name[:2]}{n:018x}" for n, t in enumerate(ts.tolist(), first * 100)]
    return {
        "type": pa.array([name] * len(ts)),
        "event_id": pa.array(ids),
        "event_ts_us": pa.array(ts),
        "ingest_ts_us": pa.array(ts + 1000),
        "request_id": pa.array([f"r{number:031x}" for number in requests.tolist()]),
        "unit": pa.array([f"user-{number}" for number in units.tolist()]),
        "assignments": _assignments(units),
    }


def _assignments(units: Int64) -> pa.Array:
    """Every unit is in three independent experiments, split by the bits of its number."""
    size = len(units) * len(_LAYERS)
    layer = np.tile(np.arange(len(_LAYERS)), len(units))
    names = pa.array(np.array(_LAYERS)[layer])
    bits = np.repeat(units, len(_LAYERS)) >> layer & 1
    values = {
        "layer": names,
        "key": names,
        "revision": pa.array(np.ones(size, np.int64)),
        "variant": pa.array(np.array(VARIANTS)[bits]),
        "propensity": pa.array(np.full(size, 0.5)),
        "forced": pa.array(np.zeros(size, np.bool_)),
        "cluster": pa.nulls(size, pa.string()),
    }
    kind = SCHEMA.field("assignments").type.value_type
    structs = pa.StructArray.from_arrays([values[field.name] for field in kind], fields=list(kind))
    return pa.ListArray.from_arrays(_offsets(np.arange(len(units) + 1) * len(_LAYERS)), structs)


def _offsets(ends: Int64) -> pa.Array:
    return pa.array(ends.astype(np.int32))


def _table(columns: dict[str, pa.Array]) -> pa.Table:
    """With the archive's columns; what is not given is null, the events' JSON among it."""
    rows = len(columns["type"])
    arrays = [
        columns[field.name].cast(field.type)
        if field.name in columns
        else pa.nulls(rows, field.type)
        for field in SCHEMA
    ]
    return pa.table(arrays, schema=SCHEMA)


def sizes(folder: Path) -> Iterator[int]:
    """Bytes of each file in a folder and those below."""
    return (path.stat().st_size for path in folder.rglob("*") if path.is_file())
