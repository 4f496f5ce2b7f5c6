"""What the page says about how its numbers were made."""

from benchmarks.serving.models import ATTENTION_UNITS, HIDDEN
from benchmarks.serving.plan import IndexSizes, Plan, RankerSizes
from benchmarks.serving.ranker import CALLS


def servers(plan: Plan) -> str:
    """Of the part on servers."""
    sizes, load = plan.catalogue, plan.load
    return (
        f"One cascade behind each server: user vector, {sizes.recalled} of {sizes.items:,} items "
        f"(D = {sizes.width}, IVF{sizes.cells}-SQ8, nprobe {sizes.probes}), ranker, best "
        f"{sizes.answered}. All load the same bundle and map the same tables. DIN attends to "
        f"{sizes.history} interactions with {ATTENTION_UNITS} units, its first layer folded into "
        f"one product a request; both rankers have layers of {HIDDEN[0]} and {HIDDEN[1]}. A "
        f"request names one of {sizes.users:,} users, and the answer is JSON with "
        f"{sizes.answered} items. The others hold all histories in memory and answer with no more "
        "than that; *cascade* reads the history from its store, splits traffic between two "
        "variants, and logs each answer before it leaves.\n\n"
        f"Closed loop over keep-alive connections (c8: 8 of them), {load.measured_s:g} s each "
        f"after warming up, medians of {load.rounds} rounds; every round starts every server anew, "
        "in an order drawn anew. A sample of the answers is compared with the answers of the same "
        "cascade in the benchmark's own process. The floor is that cascade without HTTP, in "
        f"{load.workers} processes."
    )


def indexes(sizes: IndexSizes) -> str:
    """Of the part on indexes."""
    return (
        f"{sizes.items:,} unit vectors of {sizes.width} columns in clusters of about 100 (centres "
        "from a normal distribution, items around them with 0.6 of its spread), inner product, "
        f"best {sizes.recalled}. A query is the mean of 50 items of three clusters, as a user's "
        f"history is; {sizes.queries} of them, one a call, one thread, in turn over all rows of "
        f"the table; medians over queries and {sizes.rounds} rounds. Recall is the share of the "
        "exact answer. *As exported*: with the effort that `cascade export` chooses for a recall "
        "of 0.98, by other queries than those timed."
    )


def ranker(sizes: RankerSizes) -> str:
    """Of the part on the ranker."""
    return (
        "The ranking stage of the default configuration with weights that are drawn, over "
        f"{sizes.items:,} items, one request a call, one thread, TorchScript, all of them frozen "
        f"as a server does it; medians of {sizes.rounds} turns of {CALLS} calls, ratios turn by "
        "turn. *Textbook* computes the same scores from concatenations: [q, k, q - k, q * k] a "
        "pair, everything that is known a candidate. DIN as published has no history match, so the "
        "textbook's form is timed without it, too. "
        "*Exported* is what a bundle holds."
    )
