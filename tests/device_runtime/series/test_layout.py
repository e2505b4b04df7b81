"""What a table's columns are taken for, and what is refused."""

from typing import Any

import numpy as np
import pytest

from device_runtime.errors import InputError
from device_runtime.series.dialect import read_csv
from device_runtime.series.id_names import id_tier
from device_runtime.series.options import ReadOptions
from device_runtime.series.read import read
from device_runtime.series.reading import Reading
from device_runtime.series.words import step_of

HOURS = [f"2026-03-01 {hour:02d}:00" for hour in range(24)]


def table(head: str, *rows: str, hours: int = 6) -> str:
    """Rows with {t} for the time, {h} for the hour and {v} for a value, one set an hour."""
    lines = [row.format(t=HOURS[h], h=h, v=70 + h) for h in range(hours) for row in rows]
    return "\n".join([head, *lines]) + "\n"


def reading(text: str, target: str | None = "MAP", **options: Any) -> Reading:
    return read(read_csv(text.encode(), "ward.csv"), target, ReadOptions(**options))


def first_values(got: Reading) -> dict[tuple[str, int], list[float]]:
    return {(s.item_id, s.segment): s.values[:3].tolist() for s in got.stretches()}


@pytest.mark.parametrize(
    ("name", "tier"),
    [("item_id", "item"), ("ITEMID", None), ("Patient Number", "patient"), ("row_id", None), ("patient_age", None),
     ("deviceSerialNo", "place"), ("unit", None), ("visit_occurrence_id", "stay"), ("index", None), ("ID", "generic")],
)  # fmt: skip
def test_tiers_of_ids(name: str, tier: str | None) -> None:
    assert id_tier(name) == tier


def test_the_length_of_a_step_in_a_name() -> None:
    minute = 60_000_000
    names = ["minutes", "Time [s]", "ICULOS", "time_ms", "timestamp", "step"]
    assert [step_of(name) for name in names] == [minute, minute // 60, 60 * minute, 1000, None, None]


def test_the_patient_before_the_stay_and_stays_apart() -> None:
    got = reading(table("stay_id,patient_id,hour,MAP", "1,9,{h},{v}", "2,9,{h},9{h}"))
    assert first_values(got) == {("9", 0): [70, 71, 72], ("9", 1): [90, 91, 92]}
    assert any("id is patient_id, of patient_id, stay_id" in note for note in got.notes)
    assert "stay or record: stay_id" in got.layout.lines()
    assert got.layout.to_dict()["id_column"] == "patient_id"


def test_a_number_of_the_row_is_no_id() -> None:
    assert list(first_values(reading("id,timestamp,MAP\n" + "".join(f"{h},{HOURS[h]},7{h}\n" for h in range(6))))) == [
        ("series", 0)
    ]


def test_a_site_beside_restarting_ids_is_named_as_what_it_could_be() -> None:
    text = table("site,patient,timestamp,MAP", "A,1,{t},{v}", "B,1,{t},9{h}")
    with pytest.raises(InputError, match="1 of 1 ids occur at several of column site, such as patient 1") as caught:
        reading(text)
    assert "--where site=A" in (caught.value.hint or "")
    assert first_values(reading(text, where=("SITE=B",))) == {("1", 0): [90, 91, 92]}
    assert first_values(reading(text, duplicates="mean")) == {("1", 0): [80, 81, 82]}
    with pytest.raises(InputError, match="no row has site=C") as caught:
        reading(text, where=("site=C",))
    assert "A, B" in (caught.value.hint or "")


def test_times_that_go_back_where_an_unknown_column_changes_ask_whose_they_are() -> None:
    text = "who,timestamp,MAP\n" + "".join(f"{w},2026-03-{9 - w:02d} 0{h}:00,7{h}\n" for w in (1, 2) for h in range(6))
    with pytest.raises(InputError, match="whose rows are these") as caught:
        reading(text)
    assert "--id-column who" in (caught.value.hint or "")
    assert len(first_values(reading(text, id_column="WHO"))) == 2


@pytest.mark.parametrize(
    ("flag", "bad", "good"),
    [("error", "1", "0"), ("Valid", "0", "1"), ("is_valid", "FALSE", "TRUE"), ("status", "entered-in-error", "final"),
     ("quality", "bad", "good"), ("artifact", "true", ""), ("ERROR", "1.0", "0.0")],
)  # fmt: skip
def test_known_flags_are_obeyed_and_counted(flag: str, bad: str, good: str) -> None:
    text = (
        table(f"patient,timestamp,MAP,{flag}", "1,{t},{v}," + good)
        + f"1,{HOURS[6]},250,{bad}\n1,{HOURS[7]},80,{good}\n"
    )
    got = reading(text)
    (stretch,) = got.stretches()
    np.testing.assert_array_equal(stretch.values, [*range(70, 76), np.nan, 80])
    assert got.in_error == 1
    assert got.layout.flag_columns == (flag,)


def test_a_column_of_measured_errors_or_other_words_is_no_flag() -> None:
    got = reading(table("patient,timestamp,MAP,error,status", "1,{t},{v},0.23,ICU"))
    assert got.in_error == 0
    assert [note.split(":")[0] for note in got.notes if "flag" in note] == [
        "column error is not used as a flag", "column status is not used as a flag",
    ]  # fmt: skip
    assert reading(table("patient,timestamp,MAP,warning", "1,{t},{v},1")).in_error == 0


@pytest.mark.parametrize("label", ["0", "1", "anomaly"])
def test_a_label_is_no_variable_unless_said(label: str) -> None:
    text = table("timestamp,value,label", "{t},{v}," + label)
    assert first_values(reading(text, None)) == {("series", 0): [70, 71, 72]}
    said = reading(text, label, variable_column="label")
    assert said.layout.name_column == "label"


def test_variable_and_value_columns_may_be_named() -> None:
    text = table("timestamp,Kanal,Zahl", "{t},HF,{v}", "{t},X,9{h}")
    got = reading(text, "hf", variable_column="kanal", value_column="ZAHL")
    assert first_values(got) == {("series", 0): [70, 71, 72]}
    with pytest.raises(InputError, match="which column holds their values") as caught:
        reading(text, "hf", variable_column="kanal")
    assert "--value-column" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("head", "row", "interval"),
    [
        ("patientunitstayid,observationoffset,noninvasivemean", "9,{h},{v}", "1min"),
        ("PatientUnitStayID,NursingChartOffset,NursingChartCellTypeValName,NursingChartValue",
         "9,{h},Non-Invasive BP Mean,{v}", "1min"),
        ("SUBJECT_ID,HADM_ID,CHARTTIME,ITEMID,VALUENUM", "9,1,{t},220181,{v}", "1h"),
    ],
)  # fmt: skip
def test_public_layouts_in_any_capitals(head: str, row: str, interval: str) -> None:
    assert list(first_values(reading(table(head, row), interval=interval)).values()) == [[70, 71, 72]]


def test_a_line_and_a_cuff_of_one_time_may_disagree() -> None:
    text = table("subject_id,charttime,itemid,valuenum", "9,{t},220052,{v}", "9,{t},220181,{v}.5")
    assert first_values(reading(text)) == {("9", 0): [70.25, 71.25, 72.25]}


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("ds,y\n2020-01-01,1\n2020-02-01,2\n2020-03-01,3\n", "one row a month", "number the steps"),
        ("ds,y\n2020-01-31,1\n2020-02-29,2\n2020-03-31,3\n", "one row a month", "number the steps"),
        ("timestamp,y\n46082,1\n46083,2\n", "spreadsheet's number of days .2026-03-01", "--interval"),
        ("timestamp,y\n46082.5,1\n46083.5,2\n", "spreadsheet's number of days", "export it again"),
        ("timestamp,y\n1772323200000,1\n1772326800000,2\n0,3\n", "milliseconds since 1970, 0 does not", "correct"),
        ("time,y\n04:00,1\n05:00,2\n", "'04:00' where a timestamp is needed", "needs its date"),
        ("timestamp,y\n03/04/2026,1\n04/04/2026,2\n", "where a timestamp is needed", "--date-format"),
        ("patient,hour,y\n1.0,0,1\n1,1,2\n", "'1' and '1.0': one id or two", "one way"),
        ("Who,WHO,hour,y\na,b,0,1\na,b,1,2\n", "differ only in capitals", "exactly"),
    ],
)
def test_what_could_be_two_things_is_refused(text: str, says: str, hint: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        reading(text, "y", id_column="who" if "WHO" in text else None)
    assert hint in (caught.value.hint or "")


def test_epochs_are_times_whatever_the_interval() -> None:
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        text = "timestamp,y\n" + "".join(f"{(1_772_323_200 + 3600 * h) * unit},{h}\n" for h in range(4))
        for options in ({}, {"interval": "1h"}):
            got = reading(text, "y", **options)
            (stretch,) = got.stretches()
            assert (stretch.start_us, got.interval_us) == (1_772_323_200_000_000, 3_600_000_000)
            assert any("since 1970" in note for note in got.notes)


def test_long_counts_of_milliseconds_stay_steps() -> None:
    got = reading("t_ms,y\n" + "".join(f"{h * 100_000_000},{h}\n" for h in range(90)), "y", timestamp_column="t_ms")
    assert (got.clock, got.interval_us) == ("step", 100_000_000_000)


@pytest.mark.parametrize(("how", "value"), [("last", 99.0), ("mean", 80.0), ("median", 71.0)])
def test_duplicates_are_settled_as_asked(how: str, value: float) -> None:
    text = "patient,hour,y\n" + "p,0,70\np,1,5\np,0,71\np,0,99\np,0,\n"
    assert reading(text, "y", duplicates=how).grid.value[0] == value
    with pytest.raises(InputError, match="2 of 4 values"):
        reading(text, "y", duplicates="error")
