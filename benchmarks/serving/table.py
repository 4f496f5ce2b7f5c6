"""The page of the serving benchmark."""

import math
from collections.abc import Callable, Iterable, Sequence

from benchmarks.serving.contenders import OURS, Contender
from benchmarks.serving.index import Indexes
from benchmarks.serving.ranker import Timed
from benchmarks.serving.results import (
    Absent,
    Floor,
    Point,
    Served,
    errors_of,
    median,
    points_of,
)

NOTHING = "-"


def page(about: Sequence[str], sections: Sequence[str]) -> str:
    """Markdown of all parts."""
    head = ["# Serving", "", *(f"- {line}" for line in about), ""]
    return "\n".join([*head, *sections])


def servers_section(
    served: Served, chosen: Sequence[Contender], picture: str | None, note: str
) -> str:
    """Tables of the part on servers.

    Args:
        served: what was measured.
        chosen: contenders that took part, in the order of the rows.
        picture: file name, if one was drawn.
        note: what a request is and how it was sent.
    """
    lines = ["## Servers", "", note, ""]
    lines += [f"![{picture}]({picture})", ""] if picture else []
    lines += [*_table(["server", "setting"], [[c.name, c.setting] for c in chosen], "---"), ""]
    rankers = [*(p.ranker for p in served.points), *(f.ranker for f in served.floors)]
    for ranker in dict.fromkeys(rankers):
        lines += [f"### {ranker.upper()} ranker", "", *_ranker_tables(served, chosen, ranker)]
    lines += _absent_lines(served.absent)
    return "\n".join(lines)


def _ranker_tables(served: Served, chosen: Sequence[Contender], ranker: str) -> list[str]:
    concurrencies = sorted({p.concurrency for p in served.points if p.ranker == ranker})
    columns = ["server", *(f"c{concurrency}" for concurrency in concurrencies)]

    def of_points(digits: int, value: Callable[[Point], float]) -> list[str]:
        rows = []
        for contender in chosen:
            cells = [
                _number(median(points_of(served, contender.name, ranker, c), value), digits)
                for c in concurrencies
            ]
            rows.append([_name(contender.name), *cells])
        return _table(columns, rows)

    return [
        "Requests a second:",
        "",
        *of_points(0, lambda point: point.requests_per_s),
        "",
        *_floor_lines([floor for floor in served.floors if floor.ranker == ranker]),
        "",
        "Median latency, ms:",
        "",
        *of_points(2, lambda point: point.p50_ms),
        "",
        "99th percentile of the latency, ms:",
        "",
        *of_points(1, lambda point: point.p99_ms),
        "",
        "CPU time of all processes of the server a request, ms:",
        "",
        *of_points(2, lambda point: point.cpu_ms),
        "",
        "What else there is to know:",
        "",
        *_table(
            [
                "server",
                "PSS, MB",
                "private, MB",
                "processes",
                "generator, share of a core",
                "errors",
            ],
            [_other_cells(served, contender.name, ranker) for contender in chosen],
        ),
        "",
    ]


def _other_cells(served: Served, contender: str, ranker: str) -> list[str]:
    points = [p for p in served.points if (p.contender, p.ranker) == (contender, ranker)]
    held = [h for h in served.held if (h.contender, h.ranker) == (contender, ranker)]
    busiest = max((point.generator_cpu_share for point in points), default=float("nan"))
    errors = [f"{reason}: {count}" for reason, count in sorted(errors_of(points).items())]
    return [
        _name(contender),
        _number(median(held, lambda h: h.proportional_mb), 0),
        _number(median(held, lambda h: h.private_mb), 0),
        _number(median(held, lambda h: h.processes), 0),
        _number(busiest, 2),
        ", ".join(errors) or ("none" if points else NOTHING),
    ]


def _floor_lines(floors: Sequence[Floor]) -> list[str]:
    lines = []
    for batch in sorted({floor.batch for floor in floors}):
        rows = [floor for floor in floors if floor.batch == batch]
        rate = median(rows, lambda floor: floor.requests_per_s)
        call_ms = median(rows, lambda floor: floor.call_ms)
        cpu_ms = median(rows, lambda floor: floor.cpu_ms)
        lines.append(
            f"- in-process floor, batch {batch}: {_number(rate, 0)} requests/s, "
            f"{_number(call_ms, 2)} ms a call, {_number(cpu_ms, 2)} CPU ms a request"
        )
    return lines


def index_section(found: Indexes, note: str) -> str:
    """Tables of the part on indexes."""
    searched = [
        [
            one.name,
            _number(one.recall, 3),
            _number(one.query_ms, 2),
            _number(one.built_s, 0),
            _number(one.megabytes, 0),
        ]
        for one in found.searched
    ]
    held = [
        [one.how, str(one.processes), _number(one.private_mb, 0), _number(one.proportional_mb, 0)]
        for one in found.memory
    ]
    return "\n".join(
        [
            "## Indexes",
            "",
            note,
            "",
            *_table(["index", "recall", "query, ms", "built in, s", "file, MB"], searched),
            "",
            "Memory that IVF-SQ8 adds to each process that has searched it, read into memory and "
            "mapped from its file (pages that a single process maps count as its private ones):",
            "",
            *_table(["index is", "processes", "private, MB", "PSS, MB"], held),
            "",
        ]
    )


def ranker_section(found: Sequence[Timed], note: str) -> str:
    """Table of the part on the ranker."""
    rows = [
        [
            one.form,
            str(one.candidates),
            f"{one.history:,}",
            _number(one.call_ms, 2),
            _number(one.speedup, 2),
            NOTHING if math.isnan(one.difference) else f"{one.difference:.0e}",
        ]
        for one in found
    ]
    columns = ["form", "candidates", "history", "ms", "times textbook", "largest difference"]
    return "\n".join(["## Ranker", "", note, "", *_table(columns, rows), ""])


def _absent_lines(absent: Sequence[Absent]) -> list[str]:
    if not absent:
        return []
    rows = []
    for one in absent:
        where = f"{one.ranker}, round {one.round + 1}" if one.ranker else "not installed"
        rows.append(f"- {one.contender} ({where}): {one.reason}")
    return ["Without numbers, or without all of them:", "", *rows, ""]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], rest: str = "---:") -> list[str]:
    """Lines of a table; `rest` aligns all columns but the first."""
    aligned = ["---", *(rest for _ in columns[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (columns, aligned, *rows)]


def _name(contender: str) -> str:
    return f"**{contender}**" if contender == OURS else contender


def _number(value: float, digits: int) -> str:
    return NOTHING if math.isnan(value) else f"{value:,.{digits}f}"
