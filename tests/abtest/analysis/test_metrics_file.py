from pathlib import Path

import pytest

from abtest.analysis.metric import Bounds, Kind, MetricError
from abtest.analysis.metrics_file import MAX_METRICS, load_metrics, parse_metrics
from abtest.analysis.readings.tally import name_of, tallies

HEAD = '[metrics.x]\ntitle = "x"\n'


def test_the_built_in_ones_are_there() -> None:
    metrics = load_metrics()
    assert metrics["revenue_per_unit"].kind is Kind.MEAN
    assert metrics["latency_p99"].quantile == 0.99
    assert all(name == metric.name for name, metric in metrics.items())


def test_a_file_adds_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "metrics.toml"
    assert load_metrics(path) == load_metrics()
    numerator = (
        'numerator = { event = "click", where = { item_id = "a", position = { below = 3 } } }'
    )
    path.write_text(f'[metrics.click_rate]\ntitle = "y"\n{numerator}\n{HEAD}{numerator}')
    found = load_metrics(path)
    assert found["x"].numerator.where == {"item_id": ("a",), "position": Bounds(below=3)}
    assert (found["click_rate"].title, found["click_rate"].kind) == ("y", Kind.MEAN)
    assert list(found) == [*load_metrics(), "x"]


def test_equal_measures_share_a_column() -> None:
    kept = tallies(load_metrics())
    assert len(set(kept.names)) == len(kept.names)
    assert len(kept.values) == 1
    assert [tally.measure.event for tally in kept.items] == ["click", "conversion", "impression"]
    one, other = (
        parse_metrics(f'{HEAD}numerator = {{ event = "click", where = {{ {where} }} }}', "own")[
            "x"
        ].numerator
        for where in (
            'item_id = "a", position = { below = 3 }',
            'position = { below = 3.0 }, item_id = ["a"]',
        )
    )
    assert name_of(one) == name_of(other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[metrics", "own is not valid TOML"),
        ("[metric.x]", r"own: \['metric'\] must be tables named \[metrics.NAME\]"),
        ("metrics = 1", r"own: \['metrics'\] must be tables named"),
        ("metrics.x = 1", "own: metric x must be a table without a name of its own"),
        ('[metrics.x]\nname = "y"', "own: metric x must be a table without a name of its own"),
        (HEAD, "own: metric x: numerator: Field required"),
        (f'{HEAD}numerator = {{ event = "look" }}', "x: numerator.event: Input should be 'rank"),
        (
            f'{HEAD}kind = "ratio"\nnumerator = {{ event = "click" }}',
            "own: metric x: a ratio needs denominator; only a ratio has one",
        ),
        (
            f'{HEAD}numerator = {{ event = "click" }}\ndenominator = {{ event = "ranking" }}',
            "a mean must not have denominator; only a ratio has one",
        ),
        (
            f'{HEAD}kind = "quantile"\nnumerator = {{ event = "ranking", value = "latency" }}',
            "a quantile needs quantile; only a quantile has one",
        ),
        (
            f'{HEAD}kind = "quantile"\nquantile = 0.5\nnumerator = {{ event = "ranking" }}',
            r"must be of a value of each event, \['latency', 'revenue'\], not of events; take",
        ),
        (
            f'{HEAD}kind = "ratio"\nnumerator = {{ event = "click" }}\n'
            'denominator = { event = "click" }\ncap_quantile = 0.9',
            "a ratio must not have cap_quantile; only a mean has one",
        ),
        (
            f'{HEAD}numerator = {{ event = "click", value = "revenue" }}',
            r"value revenue is not one of event click: \['events', 'items'\]",
        ),
        (
            f'{HEAD}numerator = {{ event = "ranking", where = {{ item_id = "a" }} }}',
            r"where.item_id is not a field of event ranking: \['latency', 'bundle', 'context.NAME",
        ),
        (
            f'{HEAD}numerator = {{ event = "click", where = {{ "context.a" = "b" }} }}',
            r"where.context.a is not a field of event click: \['item_id', 'position'\]",
        ),
        (
            f'{HEAD}numerator = {{ event = "click", where = {{ position = "1" }} }}',
            "where.position must be bounds, as it is a number: { at_least = 1, below = 5 }",
        ),
        (
            f'{HEAD}numerator = {{ event = "click", where = {{ item_id = {{ below = 1 }} }} }}',
            r'where.item_id must be values, as it is a text: \["a", "b"\]',
        ),
        (
            f'{HEAD}numerator = {{ event = "click", where = {{ position = {{}} }} }}',
            "bounds must have at_least, below or both; name one",
        ),
        (
            f"{HEAD}numerator = "
            '{ event = "click", where = { position = { at_least = 2, below = 2 } } }',
            "at_least 2 must be less than below 2",
        ),
    ],
)
def test_faults_are_named(text: str, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        parse_metrics(text, "own")


def test_their_number_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "metrics.toml"
    path.write_text(
        "\n".join(
            f'[metrics.m{n}]\ntitle = "m"\nnumerator = {{ event = "click" }}'
            for n in range(MAX_METRICS)
        )
    )
    with pytest.raises(MetricError, match=r"metrics.toml makes 211 metrics in all; 200 are the mo"):
        load_metrics(path)
