"""Dates that do not show their order: refused with the format that reads them, and read by it."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_runtime.errors import InputError
from device_runtime.series.date_formats import DateFormat, fitting, meant
from device_runtime.series.dialect import read_csv
from device_runtime.series.options import OptionError, ReadOptions
from device_runtime.series.read import read
from device_runtime.series.reading import Reading
from device_runtime.series.stamps import parse_stamp

OFFERED = re.compile(r"--date-format (\S+?):?(?=\s|$)")


def reading(text: str, **options: Any) -> Reading:
    return read(read_csv(text.encode(), "ward.csv"), "y", ReadOptions(**options))


def ward(*times: str) -> str:
    return "timestamp,y\n" + "".join(f"{time},{70 + row}\n" for row, time in enumerate(times))


def first(got: Reading) -> datetime:
    (stretch,) = got.stretches()
    return datetime.fromtimestamp(stretch.start_us / 1e6, UTC).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("text", "date_format", "moment"),
    [
        ("31.12.2024", "DD.MM.YYYY", datetime(2024, 12, 31)),
        ("31.12.24 20:15", "DD.MM.YY", datetime(2024, 12, 31, 20, 15)),
        ("12/31/2024 8:15:30 PM", "MM/DD/YYYY", datetime(2024, 12, 31, 20, 15, 30)),
        ("1/2/2024, 08:00", "MM/DD/YYYY", datetime(2024, 1, 2, 8)),
        ("1/2/2024T08:00:00+01:00", "DD/MM/YYYY", datetime(2024, 2, 1, 7)),
        ("2024-31-12", "YYYY-DD-MM", datetime(2024, 12, 31)),
        ("31122024 08:00", "DDMMYYYY", datetime(2024, 12, 31, 8)),
        ("24 12 31", "YY MM DD", datetime(2024, 12, 31)),
        ("01.01.69", "DD.MM.YY", datetime(1969, 1, 1)),
        ("01.01.68", "DD.MM.YY", datetime(2068, 1, 1)),
    ],
)
def test_dates_by_their_format(text: str, date_format: str, moment: datetime) -> None:
    stamp = parse_stamp(text, DateFormat(date_format).form)
    assert stamp is not None
    assert stamp[0] == moment.replace(tzinfo=UTC).timestamp() * 1e6


@pytest.mark.parametrize(
    ("text", "date_format"),
    [("31/12/2024", "MM/DD/YYYY"), ("2024-12-31", "DD.MM.YYYY"), ("31.12.2024", "DD/MM/YYYY"), ("12", "DD.MM.YYYY"),
     ("30.02.2024", "DD.MM.YYYY"), ("31.12.2024", "DD.MM.YY"), ("", "DD.MM.YYYY"), ("1.2.2024 25:00", "DD.MM.YYYY")],
)  # fmt: skip
def test_what_is_written_otherwise_is_no_time(text: str, date_format: str) -> None:
    assert parse_stamp(text, DateFormat(date_format).form) is None


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2068, 12, 31)),
    st.sampled_from("./- "),
    st.permutations(["DD", "MM", "YYYY"]),
)
def test_a_date_is_read_as_it_was_written(moment: datetime, mark: str, order: list[str]) -> None:
    codes = {"DD": f"{moment.day:02d}", "MM": f"{moment.month:02d}", "YYYY": f"{moment.year}"}
    written = mark.join(codes[part] for part in order) + f" {moment:%H:%M:%S.%f}"
    stamp = parse_stamp(written, DateFormat(mark.join(order)).form)
    assert stamp == (round((moment - datetime(1970, 1, 1)).total_seconds() * 1e6), False)


US = ("12/30/2024 22:00", "12/30/2024 23:00", "12/31/2024 00:00")
AMBIGUOUS = ("03/04/2024 08:00", "03/04/2024 09:00", "03/04/2024 10:00")


@pytest.mark.parametrize(
    ("times", "formats"),
    [
        (US, {"MM/DD/YYYY": datetime(2024, 12, 30, 22)}),
        (AMBIGUOUS, {"DD/MM/YYYY": datetime(2024, 4, 3, 8), "MM/DD/YYYY": datetime(2024, 3, 4, 8)}),
        (("12.30.2024", "12.31.2024"), {"MM.DD.YYYY": datetime(2024, 12, 30)}),
        (("30.12.24", "31.12.24"), {"DD.MM.YY": datetime(2024, 12, 30), "YY.MM.DD": None}),
        (("30-12-2024", "31-12-2024"), {"DD-MM-YYYY": datetime(2024, 12, 30)}),
    ],
)
def test_a_refusal_names_the_formats_that_read_the_column(
    times: tuple[str, ...], formats: dict[str, datetime | None]
) -> None:
    with pytest.raises(InputError, match=rf"'{re.escape(times[0])}' where a timestamp is needed .*line 2") as refused:
        reading(ward(*times))
    assert OFFERED.findall(str(refused.value.hint)) == list(formats)
    for date_format, moment in formats.items():
        if moment is not None:
            assert first(reading(ward(*times), date_format=date_format)) == moment


def test_orders_that_change_within_a_column_fit_none() -> None:
    with pytest.raises(InputError, match="'31/12/2024'") as refused:
        reading(ward("31/12/2024", "12/31/2024"))
    assert "no one order" in str(refused.value.hint)
    assert "--date-format" not in str(refused.value.hint)


def test_german_dates_show_their_order() -> None:
    assert first(reading(ward("31.12.2024 08:00", "31.12.2024 09:00"))) == datetime(2024, 12, 31, 8)


@pytest.mark.parametrize(
    ("times", "date_format", "hint"),
    [
        (US, "DD/MM/YYYY", "say --date-format MM/DD/YYYY"),
        (("2024-12-30", "2024-12-31"), "DD/MM/YYYY", "leave --date-format out"),
        (("31/12/2024", "yesterday"), "DD/MM/YYYY", "write all of the column as DD/MM/YYYY"),
        (("13.01.2024", "01.02.2024"), "MM.DD.YYYY", "leave --date-format out"),
    ],
)
def test_a_column_in_another_format_than_was_said_is_refused(
    times: tuple[str, ...], date_format: str, hint: str
) -> None:
    with pytest.raises(InputError, match=f"a date as {date_format}") as refused:
        reading(ward(*times), date_format=date_format)
    assert hint in str(refused.value.hint)


def test_a_date_beside_a_time_of_day() -> None:
    text = "date,time,y\n12/31/2024,22:00,70\n12/31/2024,23:00,71\n01/01/2025,00:00,72\n"
    got = reading(text, date_format="MM/DD/YYYY")
    assert (first(got), got.interval_us, got.layout.timestamp_columns) == (
        datetime(2024, 12, 31, 22), 3_600_000_000, ("date", "time"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("y\n70\n71\n", {"rows_are_steps": True}),
        ("year,month,day,y\n2024,1,1,70\n2024,1,2,71\n", {}),
        ("day,hour,y\n1,1,70\n1,2,71\n", {}),
    ],
)
def test_a_format_that_nothing_is_read_by_is_refused(text: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no dates that are text"):
        reading(text, date_format="DD.MM.YYYY", **options)


@pytest.mark.parametrize(
    ("said", "near"),
    [("dd.mm.yyyy", "DD.MM.YYYY"), ("%d.%m.%Y %H:%M", "DD.MM.YYYY"), ("%m/%d/%y", "MM/DD/YY"),
     ("DD.MM.YYYY HH:MM", "DD.MM.YYYY"), ("german", None), ("DD.MM", None), ("DD.DD.YYYY", None), ("DD.MM/YYYY", None),
     ("YYYY.YY.DD", None), ("", None)],
)  # fmt: skip
def test_what_is_no_format_is_refused_with_the_one_that_was_meant(said: str, near: str | None) -> None:
    assert meant(said) == near
    with pytest.raises(OptionError, match="want DD, MM and YYYY") as refused:
        ReadOptions(date_format=said)
    assert (refused.value.hint is not None) == (near is not None)
    if near is not None:
        assert f"--date-format {near}" in str(refused.value.hint)
        assert ReadOptions(date_format=near).date_format == near


def test_formats_that_fit_come_the_usual_ones_first() -> None:
    assert fitting(["01/02/03"]) == ["DD/MM/YY", "MM/DD/YY", "YY/MM/DD"]
    assert fitting([]) == fitting(["soon"]) == fitting(["2024-12-31"]) == []
