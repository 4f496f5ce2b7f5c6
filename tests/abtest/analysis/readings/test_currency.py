import random
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pytest

from abtest.analysis.metrics_file import load_metrics
from abtest.analysis.readings.currency import (
    SCALE,
    Currencies,
    CurrencyError,
    convert,
    load_currencies,
)
from abtest.analysis.readings.readings import Readings, ReadingsError, read
from abtest.analysis.readings.subject import Subject
from abtest.events import Event
from tests.abtest.analysis.readings.log import write
from tests.abtest.traffic import DAY_US, KEY, assignment, conversion, ranking

TABLE = """
report = "USD"
[rates]
EUR = 1.08
JPY = [
    { rate = 0.006700001 },
    { since = 2026-01-02, rate = 0.5 },
]
"""
METRICS = load_metrics()


def table(folder: Path, text: str = TABLE) -> Currencies:
    path = folder / "currencies.toml"
    path.write_text(text)
    found = load_currencies(path)
    assert found is not None
    return found


def reading(folder: Path, currencies: Currencies | None) -> Readings:
    subject = Subject(KEY, 1, ("old", "new"))
    return read(folder / "events", folder / "r", subject, METRICS, currencies=currencies)


def test_every_sale_is_converted_exactly(tmp_path: Path) -> None:
    rng = random.Random(2)
    answer = ranking("a", "u1", [assignment("new")])
    events: list[Event] = [answer]
    total = 0
    for number in range(400):
        code, day = rng.choice(["USD", "EUR", "JPY"]), rng.randrange(2)
        micros = rng.choice([1, 3, 5, 10**15, rng.randrange(10**9)]) * rng.choice([1, -1])
        sale = conversion(answer, 0, micros, currency=code, event_id=f"c{number}")
        later = {"event_ts_us": sale.event_ts_us + day * DAY_US}
        events.append(sale.model_copy(update=later))
        rates = {"USD": "1", "EUR": "1.08", "JPY": ("0.006700001", "0.5")[day]}
        exact = Decimal(micros) * Decimal(rates[code])
        total += int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))
    write(tmp_path / "events", events, files=2)
    readings = reading(tmp_path, table(tmp_path))
    assert readings.counts["new"].revenue_micros == total
    assert readings.currency == "USD"


def test_halves_go_to_the_even_micro(tmp_path: Path) -> None:
    half = SCALE // 2
    assert [convert(n, half) for n in (1, 3, 5, -1, -3, -5)] == [0, 2, 2, 0, -2, -2]
    answer = ranking("a", "u1", [assignment("new")])
    later = {"event_ts_us": answer.event_ts_us + DAY_US}
    halves = [conversion(answer, 0, n, currency="JPY") for n in (1, 3, 5, 7, 9)]
    write(tmp_path / "events", [answer, *(sale.model_copy(update=later) for sale in halves)])
    readings = reading(tmp_path, table(tmp_path))
    assert readings.counts["new"].revenue_micros == 0 + 2 + 2 + 4 + 4


def test_other_rates_are_rolled_up_anew_and_only_for_their_days(tmp_path: Path) -> None:
    answer = ranking("a", "u1", [assignment("new")])
    sale = conversion(answer, 0, 10, currency="JPY")
    later = sale.model_copy(update={"event_id": "l", "event_ts_us": sale.event_ts_us + DAY_US})
    write(tmp_path / "events", [answer, sale, later])
    assert reading(tmp_path, table(tmp_path)).counts["new"].revenue_micros == 5
    first = next((tmp_path / "r/day=2026-01-01").iterdir())
    changed = table(tmp_path, TABLE.replace("rate = 0.5", "rate = 2"))
    assert reading(tmp_path, changed).counts["new"].revenue_micros == 20
    assert next((tmp_path / "r/day=2026-01-01").iterdir()) == first


def test_a_currency_without_a_rate_stops_only_what_it_is_in(tmp_path: Path) -> None:
    answer, other = ranking("a", "u1", [assignment("new")]), ranking("b", "u2", [])
    write(
        tmp_path / "events",
        [answer, other, conversion(other, 0, 10, currency="XXX"), conversion(answer, 0, 7)],
    )
    assert reading(tmp_path, table(tmp_path)).counts["new"].revenue_micros == 7
    write(tmp_path / "events", [conversion(answer, 1, 10, currency="XXX")], tag="b")
    with pytest.raises(
        ReadingsError, match=r"is in \['USD', 'XXX'\], not all of which have a rate on each day"
    ):
        reading(tmp_path, table(tmp_path))


def test_a_single_currency_that_is_not_the_reports_needs_a_rate(tmp_path: Path) -> None:
    answer = ranking("a", "u1", [assignment("new")])
    write(tmp_path / "events", [answer, conversion(answer, 0, 7, currency="CHF")])
    assert reading(tmp_path, None).currency == "CHF"
    with pytest.raises(ReadingsError, match=r"is in \['CHF'\], not all of which have a rate"):
        reading(tmp_path, table(tmp_path))


def test_absurd_sums_stay_within_bounds(tmp_path: Path) -> None:
    answer = ranking("a", "u1", [assignment("new")])
    sales = [
        conversion(answer, 0, 10**15, currency="EUR", event_id=f"c{number}") for number in range(3)
    ]
    write(tmp_path / "events", [answer, *sales])
    rich = table(tmp_path, 'report = "USD"\n[rates]\nEUR = 999999')
    assert reading(tmp_path, rich).counts["new"].revenue_micros == 10**17
    sample = reading(tmp_path, rich).sample(METRICS["revenue_per_unit"], "new")
    assert sample.numerator.tolist() == [10**11]


def test_rates_hold_from_their_day(tmp_path: Path) -> None:
    currencies = table(tmp_path)
    assert currencies.on(date(2026, 1, 1)) == (
        "USD",
        {"USD": SCALE, "EUR": 1_080_000_000, "JPY": 6_700_001},
    )
    assert currencies.on(date(2026, 1, 2)).scaled["JPY"] == 500_000_000
    late = table(tmp_path, 'report = "USD"\n[rates]\nEUR = [{ since = 2026-02-01, rate = 1 }]')
    assert "EUR" not in late.on(date(2026, 1, 31)).scaled
    assert load_currencies(tmp_path / "none.toml") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("report = ", "is not valid TOML"),
        ('report = "usd"', "report: 'usd' must be three capital letters, as in USD"),
        ('report = "USD"\n[rates]\nEURO = 1', "rates.EURO.*'EURO' must be three capital letters"),
        ('report = "USD"\n[rates]\nEUR = 0', "rates.EUR.0.rate: .*greater than 0"),
        ('report = "USD"\n[rates]\nEUR = 1e6', "rates.EUR.0.rate: .*less than 1000000"),
        (
            'report = "USD"\n[rates]\nEUR = 1.0123456789',
            "1.0123456789 must have at most 9 decimal places; round it",
        ),
        (
            'report = "USD"\n[rates]\nEUR = [{ since = 2026-01-02T00:00:00, rate = 1 }]',
            "must be a day, as in 2026-01-31",
        ),
        (
            'report = "USD"\n[rates]\nEUR = [{ rate = 1 }, { rate = 2 }]',
            "rates of EUR must be one or more, each since a later day",
        ),
        ('report = "USD"\nrate = 1', "rate: Extra inputs are not permitted"),
        ('report = "USD"\nrates = 1', "rates: Input should be a valid dictionary"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CurrencyError, match=message):
        table(tmp_path, text)
