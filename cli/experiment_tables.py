"""Tables about experiments, as a terminal shows them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100


def moves(movement: dict[str, Any]) -> "Table":
    """How many users leave, enter or change a variant."""
    from rich.table import Table

    table = Table("layer", "experiment", "from", "to")
    table.add_column("users", justify="right")
    for move in movement["moves"]:
        was, now = (move[side] or "-" for side in ("before", "after"))
        table.add_row(
            move["layer"], move["key"], was, now, f"{move['units'] / movement['units']:.2%}"
        )
    return table


def overview(config: dict[str, Any]) -> "Table":
    """Every holdout and experiment of a configuration."""
    from rich.table import Table

    from abtest.split.experiment import SLOTS

    table = Table("domain", "layer", "experiment", "state", "revision")
    table.add_column("slots", justify="right")
    table.add_column("variants")
    for holdout in config["holdouts"]:
        share = f"{holdout['share']:.2%}"
        table.add_row("", "holdout", holdout["key"], "", str(holdout["revision"]), share, "")
    for domain in config["domains"]:
        for layer in domain["layers"]:
            for each in layer["experiments"]:
                held = sum(end - first for first, end in each["slots"]) / SLOTS
                names = (f"{v['name']} {v['weight']:.4g}" for v in each["variants"])
                table.add_row(
                    domain["name"],
                    layer["name"],
                    each["key"],
                    each["state"] if not each["winner"] else f"{each['state']}: {each['winner']}",
                    str(each["revision"]),
                    f"{held:.2%}",
                    ", ".join(names),
                )
    return table


def show_table(table: "Table") -> None:
    """Print a table to the standard output."""
    from rich.console import Console

    Console(width=WIDTH).print(table)
