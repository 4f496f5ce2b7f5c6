"""Page of the loop: what each round earned, by the world's own truth."""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.loop.rounds import CURRENT, FIRST, Plan, Round

TITLES = {
    "retrained": "retrained on the log",
    "not_retrained": "not retrained",
    "bestsellers": "bestsellers, the same for all",
    "best_common": "best list that is the same for all",
}


def shares(one: Round) -> dict[str, float]:
    """What each policy earns as a share of the oracle, in the visits of its arm."""
    current, first = one.arms[CURRENT], one.arms[FIRST]
    return {
        "retrained": current.expected / current.oracle,
        "not_retrained": first.expected / first.oracle,
        "bestsellers": current.bestsellers / current.oracle,
        "best_common": current.best_common / current.oracle,
    }


def by_round(found: Sequence[Round]) -> dict[int, list[Round]]:
    """Rounds of all seeds by their number."""
    numbers = sorted({one.number for one in found})
    return {number: [one for one in found if one.number == number] for number in numbers}


def page(found: Sequence[Round], plan: Plan, about: Mapping[str, str], picture: str | None) -> str:
    """The results as Markdown."""
    lines = [
        "# The closed loop",
        "",
        f"`{about['command']}`, {about['date']}, {about['took']}.",
        f"{about['machine']}; {about['versions']}.",
        "",
        f"{plan.seeds} worlds of {plan.users:,} users and {plan.items:,} items, "
        f"{plan.days} days of visits a round; 20 items a visit, over HTTP. "
        "Numbers are the expected money of the lists that the server really showed, computed from "
        "the world's own probabilities, as a share of what the best lists would earn in the same "
        "visits. They have no sampling error of clicks or purchases. Mean over the worlds, lowest "
        "and highest in brackets.",
        "",
    ]
    if picture:
        lines += [f"![Expected money by round]({picture})", ""]
    head = ["round", *TITLES.values()]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for number, rounds in by_round(found).items():
        cells = [_spread([shares(one)[name] for one in rounds]) for name in TITLES]
        lines.append(f"| {number} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "In round 0 both arms have the same bundle, trained on what the shop sold before. The arms "
        "are halves of the users: differences between equal arms are differences of the users.",
        "",
        *_gains(found),
        "",
        "| seed | round | trained on | retrained earns a visit | not retrained | oracle | "
        "paid by visitors | events | degraded answers |",
        "|" + "---|" * 9,
    ]
    for one in found:
        current, first = one.arms[CURRENT], one.arms[FIRST]
        lines.append(
            f"| {one.seed} | {one.number} | {one.train_requests:,} requests | "
            f"{current.expected:.2f} | {first.expected:.2f} | {current.oracle:.2f} | "
            f"{one.earned:,.0f} | {one.events:,} | {one.degraded} |"
        )
    return "\n".join([*lines, ""])


def _gains(found: Sequence[Round]) -> list[str]:
    """How much more the last round's retrained bundle earns, seed by seed."""
    last = max(one.number for one in found)
    gains = [
        shares(one)["retrained"] / shares(one)["not_retrained"] - 1
        for one in found
        if one.number == last
    ]
    each = ", ".join(f"{100 * gain:+.0f} %" for gain in gains)
    return [
        f"After {last} trainings the retrained bundle earns {100 * statistics.mean(gains):+.0f} % "
        f"beside the one that was not retrained (by world: {each})."
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f} ({min(values):.3f}, {max(values):.3f})"
