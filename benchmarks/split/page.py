"""Page: what was found, in Markdown."""

from typing import Any


def page(numbers: dict[str, Any]) -> str:
    """The page of a run's numbers."""
    about = numbers["about"]
    agreement, shares, ramp = numbers["agreement"], numbers["shares"], numbers["ramp"]
    whole, half = numbers["independence"], numbers["independence_at_half"]
    lines = [
        "# Split",
        "",
        "```",
        about["command"],
        "```",
        "",
        *(f"- {about[key]}" for key in ("machine", "versions", "day")),
        "",
        "## Agreement with GrowthBook",
        "",
        f"{agreement['pairs']:,} random pairs of an experiment and a unit, "
        f"{agreement['experiments']:,} experiments with random weights, coverage, seeds and "
        "namespaces, units and seeds in several scripts: "
        f"{agreement['differing']} differ from the `growthbook` package (hash version 2); in "
        f"{agreement['inside']:,} pairs the unit is in the experiment.",
        "",
        "## Laws",
        "",
        "| law | looked at | found |",
        "|---|---|---|",
        *(
            f"| layers are independent, experiments on {where} of the slots | {found['pairs']:,} "
            f"pairs of {found['layers']} layers, {found['units']:,} units | chi-squared rejects "
            f"{found['rejected'] / found['pairs']:.1%} at p < .01 (by chance 1 %); smallest p "
            f"{found['smallest']:.1g}, Bonferroni's bound {0.01 / found['pairs']:.1g} |"
            for where, found in (("all", whole), ("half", half))
        ),
        f"| shares are met (20, 30, 50 %) | {shares['layers']} layers, {shares['units']:,} units | "
        f"chi-squared rejects {shares['rejected']} of {shares['layers']} at p < .01; smallest p "
        f"{shares['smallest']:.1g} |",
        f"| a ramp moves nobody | {' → '.join(f'{step:.0%}' for step in ramp['steps'])}, "
        f"{ramp['units']:,} units | {ramp['moved']} left or changed their variant; inside: "
        f"{', '.join(f'{count:,}' for count in ramp['inside'])} |",
        "",
        "## Cost",
        "",
        "CPU time of splitting one unit on one thread, median (lowest to highest) of rounds in "
        "turn; each experiment has a layer of its own and two variants. The package is used as "
        "its documentation shows: one client, the user set by `set_attributes`, one `run` an "
        "experiment.",
        "",
        "| | experiments | µs a unit | µs an experiment | times xxh3 |",
        "|---|---|---|---|---|",
    ]
    base = {
        row["experiments"]: row["median_us"] for row in numbers["cost"] if row["name"] == "xxh3"
    }
    for row in sorted(numbers["cost"], key=lambda row: row["experiments"]):
        lines.append(
            f"| {row['name']} | {row['experiments']} | {row['median_us']:.2f} "
            f"({row['lowest_us']:.2f} to {row['highest_us']:.2f}) | {row['each_us']:.2f} | "
            f"{row['median_us'] / base[row['experiments']]:.1f} |"
        )
    return "\n".join(lines) + "\n"
