from pathlib import Path
from typing import Any

import duckdb
import pytest

from abtest.analysis.sample import Sample
from abtest.analysis.statistics.comparison import compare
from abtest.analysis.statistics.effect import AnalysisError
from abtest.analysis.table import Question, read_table
from abtest.analysis.table_analysis import analyze_table, parse_shares
from tests.abtest.analysis.declared import CAPPED, MEAN, RATIO, RATIO_CUPED, clicks, revenue
from tests.abtest.analysis.hillstrom import hillstrom_csv

QUESTION = Question(unit="user id", variant="arm", control="old", metric="spend")
ARMS = {"old": 700, "b": 600, "a": 500}


def write(path: Path, select: str = "*", where: str = "true") -> Path:
    """A table of three arms, in an order of its own."""
    rows = []
    for seed, (arm, units) in enumerate(ARMS.items()):
        seen = clicks(seed, units)
        spent = revenue(seed, units).numerator
        assert seen.denominator is not None
        rows += [
            (
                f"{arm}-{i:04}",
                arm,
                spent[i],
                seen.numerator[i],
                int(seen.denominator[i]),
                i % 2 == 0,
            )
            for i in range(units)
        ]
    with duckdb.connect() as connection:
        connection.execute(
            'CREATE TABLE t ("user id" TEXT, arm TEXT, spend DOUBLE, clicks DOUBLE, views INT, '
            "bought BOOLEAN)"
        )
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", rows)
        table = connection.sql(f"SELECT {select} FROM t WHERE {where} ORDER BY hash(spend)")
        if path.suffix == ".csv":
            table.write_csv(str(path))
        else:
            table.write_parquet(str(path))
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("table") / "users.parquet")


def test_it_is_the_analysis_of_the_samples(table: Path) -> None:
    found = analyze_table(table, QUESTION._replace(planned_units=2000), "0.39,0.27,0.34")
    assert [(arm.variant, arm.units) for arm in found.arms] == [
        ("old", 700),
        ("a", 500),
        ("b", 600),
    ]
    assert found.split_given
    assert [effect.variant for effect in found.effects] == ["a", "b"]
    old = Sample(revenue(0, 700).numerator)
    for effect, seed, units in zip(found.effects, (2, 1), (500, 600), strict=True):
        own = Sample(revenue(seed, units).numerator)
        alone = compare(MEAN, effect.variant, own, old, planned_units=2000)
        assert alone is not None
        assert effect.p_adjusted is not None
        changed = {"metric": "spend", "p_adjusted": effect.p_adjusted}
        assert effect == alone.model_copy(update=changed)
    low, high = sorted(effect.p_value for effect in found.effects)
    assert sorted(e.p_adjusted or 0 for e in found.effects) == [2 * low, max(2 * low, high)]
    assert found.arms[0].value == old.numerator.mean()


def test_a_csv_gives_the_same(table: Path, tmp_path: Path) -> None:
    text = write(tmp_path / "users.csv")
    assert analyze_table(text, QUESTION) == analyze_table(table, QUESTION)


def test_ratios_caps_and_proportions(table: Path) -> None:
    ratio = QUESTION._replace(metric="clicks", metric_type="ratio", denominator="views")
    seen = [clicks(seed, units) for seed, units in ((1, 600), (0, 700))]
    alone = compare(RATIO, "b", *seen)
    assert alone is not None
    assert analyze_table(table, ratio).effects[1].p_value == alone.p_value
    assert analyze_table(table, ratio).arms[0].value == alone.control_value
    cuped = ratio._replace(covariate="clicks", covariate_denominator="views")
    assert [e.variance_reduction for e in analyze_table(table, cuped).effects] == [None, None]
    assert RATIO_CUPED.covariate_days
    capped = analyze_table(table, QUESTION._replace(cap_quantile=0.9)).effects[1]
    spent = [Sample(revenue(seed, units).numerator) for seed, units in ((1, 600), (0, 700))]
    by_hand = compare(CAPPED, "b", *spent)
    assert by_hand is not None
    assert capped.absolute == by_hand.absolute
    share = analyze_table(table, QUESTION._replace(metric="bought", metric_type="proportion"))
    assert share.arms[0].value == 0.5


def test_a_broken_split_that_was_given_blocks_every_effect(table: Path) -> None:
    found = analyze_table(table, QUESTION, "old=0.5,a=0.25,b=0.25")
    assert not found.sample_ratio.ok
    assert (found.effects, found.untested) == ((), ())
    assumed = analyze_table(table, QUESTION)
    assert not assumed.sample_ratio.ok
    assert not assumed.split_given
    assert len(assumed.effects) == 2


def test_variants_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", where="arm <> 'a' OR \"user id\" = 'a-0001'")
    found = analyze_table(path, QUESTION)
    assert found.untested == ("a",)
    assert [effect.p_adjusted for effect in found.effects] == [None]


def test_hillstrom_as_a_table(tmp_path: Path) -> None:
    path = tmp_path / "hillstrom.parquet"
    with duckdb.connect() as connection:
        rows = connection.read_csv(str(hillstrom_csv()))
        connection.register("rows", rows)
        numbered = connection.sql("SELECT row_number() OVER () AS id, * FROM rows")
        numbered.write_parquet(str(path))
    question = Question(unit="id", variant="treatment", control="No E-Mail", metric="spend")
    found = analyze_table(path, question, "1/3,1/3,1/3".replace("1/3", "0.33333333"))
    assert found.sample_ratio.p_value == pytest.approx(0.903693, abs=5e-7)
    assert found.effects[0].absolute == pytest.approx(0.7698271559, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control": "new"}, r"control == 'new' must be one of the variants \['a', 'b', 'old'\]"),
        ({"metric": "cost"}, r"column 'cost' is not in the table; it has \['user id', 'arm'"),
        ({"metric": "arm"}, "column 'arm' is VARCHAR, it must have numbers"),
        ({"unit": "views"}, r"column 'views' has \d+ more than once; give one row a unit"),
        ({"metric_type": "proportion"}, r"column 'spend' has \d+ values other than 0 and 1"),
        ({"metric_type": "ratio"}, "a ratio needs a denominator; name its column"),
        ({"denominator": "views"}, "denominator == 'views' is for ratios"),
        ({"covariate_denominator": "views"}, "covariate_denominator == 'views' is for ratios"),
        (
            {"metric_type": "ratio", "denominator": "views", "covariate": "clicks"},
            "a ratio's covariate needs covariate and covariate_denominator",
        ),
        ({"cap_quantile": 0.4}, r"cap_quantile == 0.4 must be in \(0.5, 1\), and of a mean"),
        (
            {"metric_type": "ratio", "denominator": "views", "cap_quantile": 0.9},
            r"cap_quantile == 0.9 must be in \(0.5, 1\), and of a mean",
        ),
        ({"planned_units": 0}, "planned_units == 0 must be above 0"),
    ],
)
def test_questions_that_make_no_sense(table: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(AnalysisError, match=message):
        analyze_table(table, QUESTION._replace(**change))


def test_nulls_and_odd_numbers_are_counted(tmp_path: Path) -> None:
    nulls = write(tmp_path / "n.parquet", "* REPLACE (nullif(views, 1) AS views)")
    ratio = QUESTION._replace(metric="clicks", metric_type="ratio", denominator="views")
    with pytest.raises(AnalysisError, match=r"column 'views' has \d+ nulls; write 0 where nothing"):
        analyze_table(nulls, ratio)
    odd = write(tmp_path / "o.parquet", "* REPLACE (spend / 0.0 AS spend)")
    with pytest.raises(AnalysisError, match=r"column 'spend' has \d+ (nulls|values that are not)"):
        analyze_table(odd, QUESTION)
    endless = write(tmp_path / "e.parquet", "* REPLACE ('inf'::DOUBLE AS spend)")
    with pytest.raises(AnalysisError, match="column 'spend' has 1800 values that are not finite"):
        analyze_table(endless, QUESTION)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"none.csv does not exist; name a .parquet or a .csv"):
        read_table(tmp_path / "none.csv", QUESTION)
    with pytest.raises(AnalysisError, match=r"table.xlsx must be a .parquet or a .csv file"):
        read_table(tmp_path / "table.xlsx", QUESTION)
    (tmp_path / "bad.parquet").write_text("not a table")
    with pytest.raises(AnalysisError, match=r"bad.parquet cannot be read: "):
        read_table(tmp_path / "bad.parquet", QUESTION)


def test_names_are_data_and_no_sql(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", 'spend AS "a"" FROM given; --", "user id", arm')
    found = analyze_table(path, QUESTION._replace(metric='a" FROM given; --'))
    assert found.arms[0].units == 700


def test_shares_by_order_or_by_name() -> None:
    assert parse_shares("0.2,0.8", ["b", "a"]) == {"b": 0.2, "a": 0.8}
    assert parse_shares("a=0.8, b=0.2", ["b", "a"]) == {"b": 0.2, "a": 0.8}
    with pytest.raises(AnalysisError, match=r"'0.5,0.5' must be a share for each of \['a'\]"):
        parse_shares("0.5,0.5", ["a"])
    with pytest.raises(AnalysisError, match=r"'a=x,b=1' must be .*, such as a=0.5,b=0.5"):
        parse_shares("a=x,b=1", ["a", "b"])
    with pytest.raises(AnalysisError, match=r"'0.5,0.6' sums to 1.1; it must be 1"):
        parse_shares("0.5,0.6", ["a", "b"])
