import math

import pytest

from device_runtime.errors import InputError
from device_runtime.series.dialect import read_csv
from device_runtime.series.numerals import Numerals, decide, evidence, read_numbers


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("36,5", ","),
        ("36.5", "."),
        ("1.051", "?"),
        ("1,051", "?"),
        ("0,123", ","),
        ("1234,567", ","),
        ("1,234.5", "."),
        ("1.234,5", ","),
        ("1.234.567", ","),
        ("1,234,567", "."),
        ("1 234,5", ","),
        ("1'234.5", "."),
        ("-7,5e-05", ","),
        ("5", None),
        ("1.2.3", None),
        ("2026-03-01", None),
        ("a,5", None),
        ("", None),
        (",", None),
    ],
)
def test_what_a_number_shows(text: str, mark: str | None) -> None:
    assert evidence(text) == mark


@pytest.mark.parametrize(
    ("decimal", "text", "number"),
    [
        (".", " 36.5 ", 36.5),
        (".", "1,051", 1051.0),
        (".", "36,5", None),
        (".", "1e-3", 1e-3),
        (".", "1_000", None),
        (".", "True", None),
        (".", "٣", None),
        (".", "inf", math.inf),
        (",", "36,5", 36.5),
        (",", "1.051", 1051.0),
        (",", "36.5", None),
        (",", "1.234.567,5", 1234567.5),
        (",", "980", 980.0),
        (",", "7,5e-05", 7.5e-05),
        (",", "-,5", -0.5),
    ],
)
def test_a_number_under_a_decimal_mark(decimal: str, text: str, number: float | None) -> None:
    assert Numerals(decimal).number(text) == number


@pytest.mark.parametrize("text", ["", " ", "NA", "NaN", "null", "None", "n/a"])
def test_missing_words(text: str) -> None:
    assert math.isnan(Numerals().number(text) or 0.0)


def decided(text: str, **options: str) -> Numerals:
    return decide(read_csv(text.encode(), "ward.csv"), ["id"], **options)


def test_evidence_is_taken_from_all_rows_of_all_columns_but_ids() -> None:
    late = "id;a;b\n" + "1.5;1.051;7\n" * 30_000 + "1.5;1.052;7,5\n"
    assert decided(late).decimal == ","
    cells = read_csv(late.encode(), "ward.csv")
    assert read_numbers(cells, "a", decided(late))[[0, -1]].tolist() == [1051.0, 1052.0]
    assert "7,5" in (decided(late).note or "")
    assert decided("id,a\n1,1.051\n").decimal == "."


@pytest.mark.parametrize("text", ["id;a\n1;1.051\n", 'id,a\n1,"1,051"\n'])
def test_a_thousand_or_a_fraction_is_asked(text: str) -> None:
    with pytest.raises(InputError, match="may have a thousands or a decimal separator") as caught:
        decided(text)
    assert "--decimal" in (caught.value.hint or "")
    assert decided(text, decimal=",").decimal == ","


def test_two_ways_in_one_file_are_refused() -> None:
    with pytest.raises(InputError, match=r"'36.6' in column 'b', '72,5' in column 'a'"):
        decided("id;a;b\n1;72,5;36.6\n")
