"""Files as people of the field have them, beside those that are known: read as meant on both sides, or refused."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.support.both_readers import Read, same_on_both

START = datetime(2026, 3, 1, 10)
HOURS = 24
WARD = {"101": 60, "102": 91, "103": 121}


def level(base: float) -> list[float]:
    """Return one patient's hourly values."""
    return [base + hour * 7 % 5 for hour in range(HOURS)]


def at(hour: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return (START + timedelta(hours=hour)).strftime(form)


def read_text(tmp_path: Path, text: str, target: str = "MAP", **options: object) -> Read:
    path = tmp_path / "ward.csv"
    path.write_bytes(text.encode())
    return same_on_both(path, target, **options)


def assert_values(read: Read, wanted: dict[str, list[float]]) -> None:
    assert read.refused is None
    assert read.values().keys() == wanted.keys()
    for item, values in wanted.items():
        np.testing.assert_allclose(read.values()[item], np.array(values, dtype=float), rtol=1e-5)


def assert_refused(read: Read, *words: str) -> None:
    said = f"{read.refused} {read.hint}"
    assert read.refused
    assert read.hint
    for word in words:
        assert word in said


def one(head: str, row: Callable[[int, float], str], hours: int = HOURS) -> str:
    """Return a table of one patient, its rows made by ``row(hour, value)``."""
    return "\n".join([head, *(row(hour, value) for hour, value in enumerate(level(60)[:hours]))]) + "\n"


def ward(head: str, apart: int = 0, by_turns: bool = False) -> str:
    """Return a table of three patients, their times ``apart`` hours apart."""
    rows = [
        (hour + place * apart, f"{item},{at(hour + place * apart)},{value:g}")
        for place, (item, base) in enumerate(WARD.items())
        for hour, value in enumerate(level(base))
    ]
    return "\n".join([head, *(row for _, row in (sorted(rows) if by_turns else rows))]) + "\n"


@pytest.mark.parametrize(
    "name",
    ["infant_id", "Probanden-ID", "RID", "horse_id", "SID", "id_paciente", "codice_paziente", "USUBJID", "Fallnummer",
     "op_id", "Kennnummer", "患者ID", "unitstayid", "personnummer", "No.", "ID#"],
)  # fmt: skip
@pytest.mark.parametrize(("apart", "by_turns"), [(0, False), (0, True), (24, False), (40, False)])
def test_ids_of_other_names_and_languages(tmp_path: Path, name: str, apart: int, by_turns: bool) -> None:
    read = read_text(tmp_path, ward(f"{name},timestamp,MAP", apart, by_turns))
    assert_values(read, {item: level(base) for item, base in WARD.items()})


@pytest.mark.parametrize("name", ["who", "grp", "mac"])
def test_stays_under_an_unknown_name_that_do_not_overlap_ask_whose_they_are(tmp_path: Path, name: str) -> None:
    assert_refused(
        read_text(tmp_path, ward(f"{name},timestamp,MAP", 40)), "whose rows are these", f"--id-column {name}"
    )


def test_an_id_written_as_one_that_comes_by_turns_asks_whose_it_is(tmp_path: Path) -> None:
    text = one("horse_id,timestamp,MAP", lambda hour, value: f"{hour % 2},{at(hour)},{value}")
    assert_refused(read_text(tmp_path, text), "--id-column horse_id")


@pytest.mark.parametrize("name", ["alarm_id", "unit_id", "nurse_no", "order number", "shift"])
def test_ids_of_other_things_are_none_of_a_patient(tmp_path: Path, name: str) -> None:
    text = one(f"{name},timestamp,MAP", lambda hour, value: f"{hour // 8 % 2},{at(hour)},{value}")
    assert_values(read_text(tmp_path, text), {"ward": level(60)})


def test_a_site_is_part_of_the_identity_in_one_file_too(tmp_path: Path) -> None:
    for apart in (0, 24):
        text = ward("site,timestamp,MAP", apart).replace("\n10", "\nX10").replace(",timestamp", ",subject,timestamp")
        text = "\n".join(line.replace(",2026", ",1,2026", 1) for line in text.splitlines())
        assert_refused(read_text(tmp_path, text), "ids occur at several of column site", "--where site=X101")


def test_ids_that_are_floats_with_a_decimal_comma_are_whole_numbers(tmp_path: Path) -> None:
    text = one("patient;timestamp;MAP", lambda hour, value: f"7,0;{at(hour)};{f'{value:.1f}'.replace('.', ',')}")
    assert_values(read_text(tmp_path, text), {"7": level(60)})


@pytest.mark.parametrize(
    "name", ["type", "Type", "name", "kind", "Bezeichnung", "observation_name", "d_label", "tag", "measurement_type"]
)
def test_a_column_that_names_two_vital_signs_is_the_variable(tmp_path: Path, name: str) -> None:
    text = one(
        f"patient,timestamp,{name},value",
        lambda hour, value: f"1,{at(hour)},Mean arterial pressure (mmHg),{value}\n1,{at(hour)[:14]}30:00,Heart rate,70",
    )
    assert_values(read_text(tmp_path, text, interval="1h"), {"1": level(60)})


@pytest.mark.parametrize("name", ["type", "item", "description", "label", "code"])
def test_variables_in_words_that_nobody_knows_are_refused(tmp_path: Path, name: str) -> None:
    text = one(
        f"patient,timestamp,{name},value",
        lambda hour, value: f"1,{at(hour)},bloeddruk,{value}\n1,{at(hour)[:14]}30:00,pols,70",
    )
    assert_refused(read_text(tmp_path, text), f"--variable-column {name}", "bloeddruk, pols")
    read = read_text(tmp_path, text, "bloeddruk", variable_column=name)
    assert_values(read, {"1": level(60)})


def test_labels_of_anomalies_are_no_variables(tmp_path: Path) -> None:
    text = one(
        "timestamp,value,label", lambda hour, value: f"{at(hour)},{value},{'anomaly' if hour == 5 else 'normal'}"
    )
    assert_values(read_text(tmp_path, text), {"ward": level(60)})


def test_amsterdamumcdb_numericitems(tmp_path: Path) -> None:
    text = one(
        "admissionid,itemid,item,tag,value,unitid,unit,measuredat,registeredat",
        lambda hour, value: (
            f"9,6642,ABP gemiddeld,,{value},173,mmHg,{hour * 3_600_000},0\n"
            f"9,6640,Hartfrequentie,,70,15,/min,{hour * 3_600_000 + 60_000},0"
        ),
    )
    read = read_text(tmp_path, text)
    assert_values(read, {"9": level(60)})
    assert read.interval_us == 3_600_000_000


@pytest.mark.parametrize(
    ("head", "scale"),
    [("MAP [cmH2O]", 1 / 0.7355592), ("MAP (hPa)", 1 / 0.7500617), ("MAP_mbar", 1 / 0.7500617), ("MAP (Torr)", 1.0),
     ("MAP [kPa]", 1 / 7.500617), ("ABP (mean)", 1.0), ("ART M mmHg", 1.0), ("NIBP M", 1.0)],
)  # fmt: skip
def test_units_of_pressure_in_a_name(tmp_path: Path, head: str, scale: float) -> None:
    read = read_text(tmp_path, one(f"timestamp,{head}", lambda hour, value: f"{at(hour)},{value * scale:.6f}"))
    assert_values(read, {"ward": level(60)})


@pytest.mark.parametrize("head", ["MAP [xyz]", "MAP (Pa)", "HR [ms]", "HR (s)"])
def test_a_name_with_a_unit_that_is_none_of_the_signal_is_refused(tmp_path: Path, head: str) -> None:
    read = read_text(tmp_path, one(f"timestamp,{head}", lambda hour, value: f"{at(hour)},{value}"), head[:3].strip())
    assert_refused(read, "is no unit known here", "--unit")


@pytest.mark.parametrize(
    ("unit", "scale"), [("cmH2O", 1 / 0.7355592), ("Torr", 1), ("mm Hg", 1), ("hPa", 1 / 0.7500617)]
)
def test_a_column_of_units_is_obeyed(tmp_path: Path, unit: str, scale: float) -> None:
    read = read_text(tmp_path, one("timestamp,MAP,unit", lambda hour, value: f"{at(hour)},{value * scale:.6f},{unit}"))
    assert_values(read, {"ward": level(60)})


def test_beats_a_second_become_beats_a_minute(tmp_path: Path) -> None:
    read = read_text(tmp_path, one("timestamp,HR [Hz]", lambda hour, value: f"{at(hour)},{value / 60:.7f}"), "HR")
    assert_values(read, {"ward": level(60)})


@pytest.mark.parametrize(
    ("flag", "good", "bad"),
    [("resultstatus", "Final", "Cancelled"), ("voided", "0", "1"), ("retracted", "N", "Y"), ("bad", "0", "1"),
     ("lead_off", "0", "1"), ("charted_in_error", "0", "1"), ("MAP_valid", "1", "0"), ("MAP_flag", "ok", "artifact"),
     ("valid_MAP", "true", "false"), ("quality", "good", "bad"), ("usable", "1", "0"), ("Fehler", "nein", "ja")],
)  # fmt: skip
def test_more_flags_are_obeyed(tmp_path: Path, flag: str, good: str, bad: str) -> None:
    text = one(
        f"timestamp,MAP,{flag}",
        lambda hour, value: f"{at(hour)},{300 if hour == 3 else value},{(good, bad)[hour == 3]}",
    )
    wanted = level(60)
    wanted[3] = np.nan
    assert_values(read_text(tmp_path, text), {"ward": wanted})


def test_the_flag_of_another_signal_takes_nothing_out(tmp_path: Path) -> None:
    text = one("timestamp,MAP,HR_valid", lambda hour, value: f"{at(hour)},{value},{hour % 2}")
    assert_values(read_text(tmp_path, text), {"ward": level(60)})


@pytest.mark.parametrize(
    "cell", ["NULL", "-", "---", "***", "?", "-?-", "n.a.", "(null)", "\\N", "#DIV/0!", "missing", "..", "-9999",
             "32767", "0", "-1", "65535"]
)  # fmt: skip
def test_cells_that_say_that_nothing_was_measured(tmp_path: Path, cell: str) -> None:
    text = one("timestamp,MAP", lambda hour, value: f"{at(hour)},{cell if hour == 3 else value}")
    wanted = level(60)
    wanted[3] = np.nan
    assert_values(read_text(tmp_path, text), {"ward": wanted})


@pytest.mark.parametrize("cell", ["<5", ">300", "~60", "60*", "60 mmHg", "120/60", "60?", "Lead off", "0x3C", "60%"])
def test_cells_that_are_no_number_are_named(tmp_path: Path, cell: str) -> None:
    text = one("timestamp,MAP", lambda hour, value: f"{at(hour)},{cell if hour == 3 else value}")
    assert_refused(read_text(tmp_path, text), cell, "line 5", "leave the field empty")


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d %I:%M:%S %p", "%d-%b-%Y %H:%M", "%d%b%Y:%H:%M:%S", "%d %B %Y %H:%M", "%a %d %b %Y %H:%M:%S GMT",
     "%Y%m%d_%H%M%S", "%Y%m%d-%H%M", "%d.%m.%Y %I:%M %p", "%Y-%m-%dT%H:%M:%SZ[UTC]"],
)  # fmt: skip
def test_more_forms_of_time(tmp_path: Path, form: str) -> None:
    read = read_text(tmp_path, one("timestamp,MAP", lambda hour, value: f"{at(hour, form)},{value}"))
    assert_values(read, {"ward": level(60)})
    assert [start for start, _ in read.series.values()] == [1_772_359_200_000_000]


@pytest.mark.parametrize(
    ("columns", "form"),
    [("chart_date,chart_time", "%Y-%m-%d,%H:%M"), ("ObservationDate,ObservationTime", "%d.%m.%Y,%H:%M:%S"),
     ("date,time", "%Y-%m-%d 00:00:00,%H:%M:%S"), ("date,time", "%Y-%m-%d,%H%M"), ("date,time", "%Y%m%d,%I:%M %p"),
     ("date,time", "%Y-%m-%d,1899-12-30 %H:%M:%S"), ("date,hour,minute", "%Y-%m-%d,%H,%M"),
     ("year,month,day,hour,min", "%Y,%m,%d,%H,%M"), ("year,doy,hour", "%Y,%j,%H"), ("Datum,Uhrzeit", "%d.%m.%Y,%H:%M")],
)  # fmt: skip
def test_more_times_in_several_columns(tmp_path: Path, columns: str, form: str) -> None:
    def row(hour: int, value: float) -> str:
        return f"{(START + timedelta(hours=hour, minutes=7)).strftime(form)},{value}"

    read = read_text(tmp_path, one(f"{columns},MAP", row))
    assert_values(read, {"ward": level(60)})
    minutes = 7 if "%M" in form else 0
    assert [start for start, _ in read.series.values()] == [1_772_359_200_000_000 + minutes * 60_000_000]


@pytest.mark.parametrize(
    ("columns", "row"),
    [("day,hour", lambda h: f"{h // 24},{h % 24}"), ("day,time", lambda h: f"{h // 24},{h % 24}:00"),
     ("study day,seconds of day", lambda h: f"{h // 24},{h % 24 * 3600}"), ("elapsed", lambda h: f"{h}:00:00"),
     ("time", lambda h: f"{h}:00"), ("relative_time", lambda h: f"{h // 24} days {h % 24:02d}:00:00")],
)  # fmt: skip
def test_times_since_a_start(tmp_path: Path, columns: str, row: Callable[[int], str]) -> None:
    read = read_text(tmp_path, one(f"{columns},MAP", lambda hour, value: f"{row(hour + 10)},{value}"))
    assert_values(read, {"ward": level(60)})
    assert [start for start, _ in read.series.values()] == [10]
    assert read.interval_us == 3_600_000_000


@pytest.mark.parametrize(
    ("columns", "row", "said"),
    [("date,hour", lambda h: f"{at(h, '%Y-%m-%d')},{h % 24 + 1}", "no time of day"),
     ("day,hour", lambda h: f"{h % 31 + 1},{h // 31}", "begins again"),
     ("seconds_of_day", lambda h: f"{h * 600}", "no column says of which"),
     ("timestamp,tz", lambda h: f"{at(h)},{'+01:00' if h < 9 else '+02:00'}", "several zones"),
     ("timestamp", lambda h: f"{639_079_200_000_000_000 + h * 36_000_000_000}", "ticks")],
)  # fmt: skip
def test_times_that_cannot_be_told_are_refused(
    tmp_path: Path, columns: str, row: Callable[[int], str], said: str
) -> None:
    rows = "".join(f"{row(hour)},{60 + hour % 5}\n" for hour in range(31))
    assert_refused(read_text(tmp_path, f"{columns},MAP\n{rows}"), said)


@pytest.mark.parametrize(
    ("before", "after"),
    [("# exported by the ward\n# version 2\n", ""), ("", ",,\n,,\n"), ("\n\n# one, two\n", ",,\n")],
)
def test_comments_and_empty_rows_are_passed_over(tmp_path: Path, before: str, after: str) -> None:
    text = before + one("timestamp,HR,MAP", lambda hour, value: f"{at(hour)},70,{value}") + after
    assert_values(read_text(tmp_path, text), {"ward": level(60)})


def test_a_header_may_begin_with_a_number_sign(tmp_path: Path) -> None:
    text = one("# hours,MAP", lambda hour, value: f"{hour},{value}")
    assert_values(read_text(tmp_path, text), {"ward": level(60)})


@pytest.mark.parametrize(("unit", "scale"), [("mmHg", 1), ("[kPa]", 1 / 7.500617)])
def test_a_line_of_units_below_the_header(tmp_path: Path, unit: str, scale: float) -> None:
    text = one(f"time,HR,MAP\nmin,bpm,{unit}", lambda hour, value: f"{hour * 60},70,{value * scale:.6f}")
    read = read_text(tmp_path, text)
    assert_values(read, {"ward": level(60)})
    assert read.interval_us == 3_600_000_000
    broken = read_text(tmp_path, text.replace("240,70,63", "240,70,x").replace("240,70,8", "240,70,x"))
    assert_refused(broken, "line 7")


def test_lines_before_the_header_are_named_as_what_they_are(tmp_path: Path) -> None:
    text = "Ward report\n" + one("timestamp,HR,MAP", lambda hour, value: f"{at(hour)},70,{value}")
    assert_refused(read_text(tmp_path, text), "take out the lines before")
