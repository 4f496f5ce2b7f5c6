"""Preparation report: what was found in the published files."""

from pydantic import BaseModel, ConfigDict

from training.recflow.log import LIST_LENGTH


class DayReport(BaseModel):
    """What a day holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: str
    requests: int
    short_lists: dict[str, int]
    """For each list, requests in which it has fewer than `LIST_LENGTH`."""
    missing_ranks: dict[str, int]
    """For each list with places, videos without a row that says theirs."""
    without_history: int
    """Requests."""
    new_items: int
    """Items seen for the first time."""
    exposures: int


class PreparationReport(BaseModel):
    """What all days hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: tuple[DayReport, ...]
    items: int
    seen: dict[str, int]
    """For fields whose ids have rows in the order of first sight, ids seen."""
    published: dict[str, int]
    """For the same fields, ids there are."""


def render(report: PreparationReport) -> str:
    """The report as text, for a terminal."""
    head = ("day", "requests", "no history", "exposures", "new items", "short lists", "no rank")
    table: list[tuple[str, ...]] = [head]
    for day in report.days:
        numbers = (
            day.requests, day.without_history, day.exposures, day.new_items,
            sum(day.short_lists.values()), sum(day.missing_ranks.values()),
        )  # fmt: skip
        table.append((day.day, *(f"{number:,}" for number in numbers)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in table]
    lines.append("")
    for title, kind in (("lists shorter than", "short_lists"), ("unknown ranks", "missing_ranks")):
        totals: dict[str, int] = {}
        for day in report.days:
            for name, number in getattr(day, kind).items():
                totals[name] = totals.get(name, 0) + number
        found = ", ".join(f"{name} {number:,}" for name, number in totals.items() if number)
        label = f"{title} {LIST_LENGTH}" if kind == "short_lists" else title
        lines.append(f"{label}: {found or 'none'}")
    seen = (
        f"{name} {report.seen[name]:,} of {total:,}" for name, total in report.published.items()
    )
    lines.append(f"ids seen: {', '.join(seen)}")
    lines.append(f"items: {report.items:,}")
    return "\n".join(lines)
