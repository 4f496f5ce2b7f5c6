"""Currency: revenue of several currencies told in one, exactly."""

import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, Field, ValidationError, field_validator

from abtest.analysis.metric import Frozen

DIGITS: Final = 9
"""Decimal places of a rate at most, so that micros times rate is a whole number of 10^-9 micros."""
SCALE: Final = 10**DIGITS
_MAX_RATE: Final = 10**6


class CurrencyError(ValueError):
    """A table of currencies that cannot be used; the message names place, value and remedy."""


def _check_code(code: str) -> str:
    if not (len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()):
        raise ValueError(f"{code!r} must be three capital letters, as in USD (ISO 4217)")
    return code


Code = Annotated[str, AfterValidator(_check_code)]


class Rate(Frozen):
    """What one unit of a currency is worth in the report's, from a day on."""

    since: date = date.min
    """First day (UTC) it holds for."""
    rate: Decimal = Field(gt=0, lt=_MAX_RATE)

    @field_validator("rate")
    @classmethod
    def _few_digits(cls, rate: Decimal) -> Decimal:
        exponent = rate.normalize().as_tuple().exponent
        if not isinstance(exponent, int) or exponent < -DIGITS:
            raise ValueError(f"{rate} must have at most {DIGITS} decimal places; round it")
        return rate

    @field_validator("since", mode="before")
    @classmethod
    def _a_day(cls, since: Any) -> Any:  # noqa: ANN401  # not checked yet
        if isinstance(since, datetime):
            raise ValueError(f"{since} must be a day, as in 2026-01-31")
        return since


class DayRates(NamedTuple):
    """Rates of one day."""

    report: str
    """Currency that is converted to."""
    scaled: Mapping[str, int]
    """By currency, the report's own included, `SCALE` times what a unit of it is worth."""


class Currencies(Frozen):
    """The currency of reports, and the rates of the others."""

    report: Code
    rates: dict[Code, tuple[Rate, ...]] = Field(default={})
    """By currency, each from its day until the next one's. `EUR = 1.08` stands for one rate of all
    days."""

    @field_validator("rates", mode="before")
    @classmethod
    def _one_may_stand_alone(cls, rates: Any) -> Any:  # noqa: ANN401  # not checked yet
        if not isinstance(rates, dict):
            return rates
        return {
            code: ({"rate": found},) if isinstance(found, int | Decimal) else found
            for code, found in rates.items()
        }

    @field_validator("rates")
    @classmethod
    def _in_order(cls, rates: dict[str, tuple[Rate, ...]]) -> dict[str, tuple[Rate, ...]]:
        for code, found in rates.items():
            days = [rate.since for rate in found]
            if not days or days != sorted(set(days)):
                raise ValueError(f"rates of {code} must be one or more, each since a later day")
        return rates

    def on(self, day: date) -> DayRates:
        """Rates of a day; a currency without a rate that day is not among them."""
        found = {self.report: SCALE}
        for code, rates in self.rates.items():
            valid = [rate.rate for rate in rates if rate.since <= day]
            if valid and code != self.report:
                found[code] = int(valid[-1] * SCALE)
        return DayRates(self.report, found)


def convert(micros: int, rate: int) -> int:
    """Micros of the report's currency, rounded half to even.

    Args:
        micros: of another currency.
        rate: `SCALE` times what a unit of it is worth.

    >>> convert(1_000_000, 1_080_000_000)
    1080000
    >>> convert(1, 500_000_000), convert(3, 500_000_000), convert(-1, 500_000_000)
    (0, 2, 0)
    """
    whole, rest = divmod(micros * rate, SCALE)
    return whole + (2 * rest > SCALE or (2 * rest == SCALE and whole % 2))


def load_currencies(path: Path) -> Currencies | None:
    """Read `currencies.toml` of the data directory; None where there is none.

    Raises:
        CurrencyError: the file breaks a rule.
    """
    if not path.is_file():
        return None
    try:
        raw = tomllib.loads(path.read_text(), parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise CurrencyError(f"{path} is not valid TOML: {error}") from error
    try:
        return Currencies.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise CurrencyError(f"{path}: {where + ': ' if where else ''}{message}") from error
