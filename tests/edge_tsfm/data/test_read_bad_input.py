"""What a hospital export gets wrong, and what it is told."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tsfm.data import DataOptions, read_dataset
from edge_tsfm.errors import ConfigError, DataError

HEAD = "patient,timestamp,HR\n"
GOOD = "".join(f"p1,2026-01-01 0{h}:00,7{h}\n" for h in range(6))


@pytest.mark.parametrize(
    ("text", "options", "says", "hint"),
    [
        (HEAD + GOOD, {"target": "MAP"}, "no column 'MAP'", "patient, timestamp, HR"),
        (HEAD + GOOD, {"target": "HR", "id_column": "bed"}, "no column 'bed'", "patient"),
        (HEAD + GOOD, {}, "which column is the target", "--target"),
        ("patient,HR\np1,70\n", {"target": "HR"}, "no timestamp column", "--timestamp-column"),
        (HEAD, {"target": "HR"}, "no rows", None),
        ("", {"target": "HR"}, "is empty", None),
        (HEAD + GOOD + "p1,2026-01-01 06:00,high\n", {"target": "HR"}, "'high'.*line 8", "empty"),
        (HEAD + GOOD + "p1,yesterday,70\n", {"target": "HR"}, "'yesterday'.*line 8", "ISO 8601"),
        (HEAD + GOOD + "p1,,70\n", {"target": "HR"}, "'timestamp' is empty.*line 8", None),
        (HEAD + GOOD + ",2026-01-01 06:00,70\n", {"target": "HR"}, "'patient' is empty.*line 8", None),
        (HEAD + GOOD + "p1,2026-01-01 06:00Z,70\n", {"target": "HR"}, "time zone.*line 8", "same form"),
        (HEAD + GOOD + "p1,2026-01-01 06:00,70,9\n", {"target": "HR"}, "not a regular table", None),
        (HEAD + GOOD + "p1,2026-01-01 06:20,70\n", {"target": "HR"}, "irregular: 1 of 7", "--interval"),
        (HEAD + "p1,2026-01-01,70\np2,2026-01-01,71\n", {"target": "HR"}, "one row for each", "id column"),
        (HEAD + GOOD.replace(",7", ",0.7"), {"target": "HR"}, "6 of 6 values of HR lie outside", "--unit"),
        (HEAD + GOOD, {"target": "HR", "unit": "mmHg"}, "--unit mmHg", None),
        (HEAD + GOOD, {"target": "HR", "interval": "often"}, "'often' is not a span", "1h"),
        (HEAD + GOOD, {"target": "HR", "interval": "-1h"}, "not longer than nothing", None),
        (HEAD + GOOD, {"target": "HR", "max_gap": "5min"}, "shorter than the interval", None),
        ("item_id,step,HR\na,0,70\na,1,71\na,9,72\n", {"target": "HR", "max_gap": "2h"}, "counts steps", "--interval"),
        (HEAD + GOOD, {"target": "HR", "plausible": (9, 9)}, "holds nothing", None),
        ("patient,hour,HR,HR\np1,1,70,71\n", {"target": "HR"}, "two columns called 'HR'", None),
        ("patient,hour,HR\np1,1,70\np1,1e30,70\n", {"target": "HR"}, "1e[+]30 for a step .*line 3", None),
        (HEAD + GOOD, {"target": "HR", "interval": "1us", "max_gap": "2h"}, "on a clock", "--interval"),
        ("patient,hour,HR\np1,1,\np1,2,\n", {"target": "HR"}, "not one usable", None),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_with_the_place_and_a_hint(
    tmp_path: Path, text: str, options: dict[str, object], says: str, hint: str | None
) -> None:
    path = tmp_path / "ward.csv"
    path.write_text(text, "utf-8")
    named: Any = {name: options[name] for name in ("target", "plausible") if name in options}
    said = DataOptions.of({name: value for name, value in options.items() if name not in named})
    with pytest.raises((DataError, ConfigError), match=says) as caught:
        read_dataset(path, said, **named)
    assert hint is None or hint in (caught.value.hint or "")
    assert isinstance(caught.value, ConfigError) or "ward.csv" in str(caught.value)


def test_mixed_intervals_are_refused_unless_one_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "ward.csv"
    minutes = [("p1", m) for m in range(200)] + [("p2", m) for m in range(0, 600, 60)]
    path.write_text("patient,minute,HR\n" + "".join(f"{p},{m},80\n" for p, m in minutes))
    with pytest.raises(DataError, match="mixes intervals: most rows are 1min apart, those of item p2 1h"):
        read_dataset(path, target="HR")
    assert [len(s) for s in read_dataset(path, DataOptions(interval="1h"), target="HR").series] == [4, 10]


def test_unsorted_and_repeated_rows_are_mended_and_counted(tmp_path: Path) -> None:
    lines = GOOD.splitlines(keepends=True)
    path = tmp_path / "ward.csv"
    path.write_text(HEAD + "".join([lines[3], *lines[:3], *lines[4:], lines[5], "p1,2026-01-01 05:00,77\n"]))
    with pytest.raises(DataError, match=r"1 of 8 values are of a time that has another value.*ward\.csv, line 9") as no:
        read_dataset(path, target="HR")
    assert "--duplicates" in (no.value.hint or "")
    data = read_dataset(path, DataOptions(duplicates="median"), target="HR")
    assert data.series[0].target.tolist() == [70, 71, 72, 73, 74, 75]  # of 75, 75 and 77 the median
    report = data.report
    assert (report.unsorted, report.duplicates_identical, report.duplicates_conflicting) == (1, 1, 1)


def test_a_clock_finer_than_the_file_is_noted(tmp_path: Path) -> None:
    (tmp_path / "ward.csv").write_text(HEAD + GOOD)
    data = read_dataset(tmp_path / "ward.csv", DataOptions(interval="1min", max_gap="2h"), target="HR")
    assert data.report.values == 6
    assert any("is the interval shorter" in note for note in data.report.notes)


def test_a_unit_that_is_not_the_signals_is_refused_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(
        "subject_id,charttime,itemid,valuenum,valueuom\n1,2150-01-01 00:00,220045,80,bpm\n"
        "1,2150-01-01 01:00,220045,1.3,mV\n"
    )
    with pytest.raises(DataError, match=r"HR in 'mV': wanted 1/min .*line 3"):
        read_dataset(tmp_path / "e.csv", target="HR")


def test_an_event_table_without_the_signal_lists_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("subject_id,charttime,itemid,valuenum\n1,2150-01-01 00:00,220045,80\n")
    with pytest.raises(DataError, match="no rows with itemid 'MAP'") as caught:
        read_dataset(tmp_path / "e.csv", target="MAP")
    assert "220045" in (caught.value.hint or "")


@pytest.mark.parametrize("content", [b"", b"HR|O2Sat|ICULOS\n"])
def test_an_empty_psv_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p000001.psv").write_bytes(b"HR|O2Sat|ICULOS\n80|97|1\n81|97|2\n")
    (tmp_path / "p000002.psv").write_bytes(content)
    with pytest.raises(DataError, match=r"p000002\.psv has") as caught:
        read_dataset(tmp_path, target="HR")
    assert "again" in (caught.value.hint or "")


def test_text_in_a_psv_names_file_and_line(tmp_path: Path) -> None:
    for k in (1, 2):
        (tmp_path / f"p00000{k}.psv").write_text("HR|O2Sat|ICULOS\n80|97|1\nNaN|97|2\n" + ("x|1|3\n" if k == 2 else ""))
    with pytest.raises(DataError, match=r"'x' .*p000002.psv, line 4"):
        read_dataset(tmp_path, target="HR")


def test_psv_files_of_different_shape_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p1.psv").write_text("HR|O2Sat|ICULOS\n80|97|1\n")
    (tmp_path / "p2.psv").write_text("HR|ICULOS\n80|1\n")
    with pytest.raises(DataError, match=r"p2\.psv has other columns"):
        read_dataset(tmp_path, target="HR")


def test_what_is_not_data(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    (tmp_path / "latin.csv").write_bytes(HEAD.encode() + "pé,2026-01-01,70\n".encode("latin-1"))
    (tmp_path / "broken.csv.gz").write_bytes(b"\x1f\x8b\x08\x00")
    (tmp_path / "empty").mkdir()
    for name, says in (
        ("a.parquet", "Parquet"), ("a.xlsx", "cannot read a file of this name"), ("latin.csv", "one row for each item"),
        ("broken.csv.gz", "cannot be read"), ("empty", "no .hea"), ("absent.csv", "does not exist"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=says):
            read_dataset(tmp_path / name, target="HR")


def test_folders_of_unlike_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEAD + GOOD)
    pd.DataFrame({"x": [1]}).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(DataError, match=r"b\.csv has other columns"):
        read_dataset(tmp_path, target="HR")


cells = st.sampled_from(
    ["p1", "", "1", "2", "70", "0", "-1", "inf", "1e400", "2026-01-01 00:00", "2026-13-01", "0001-01-01",
     "9999-12-31",
     "2026-01-01T01:00Z", "220045", "bpm", "?F", '"', "é", "True", "1,5", "NaT", "\x00"]
)  # fmt: skip
heads = st.sampled_from(
    ["patient,hour,HR", "item_id,timestamp,target", "subject_id,charttime,itemid,valuenum", "timestamp,value",
     "HR|O2Sat|ICULOS", "patient;timestamp;HR", "patient_id,hour,vital,value", "HR,HR", ""]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(heads, st.lists(st.lists(cells, min_size=2, max_size=5), max_size=6), st.sampled_from([None, "1h"]))
def test_any_table_is_read_or_refused_in_words(head: str, rows: list[list[str]], interval: str | None) -> None:
    separator = next((mark for mark in ";|" if mark in head), ",")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ward.csv"
        path.write_text("\n".join([head, *(separator.join(row) for row in rows)]), "utf-8")
        try:
            said = read_dataset(path, DataOptions(interval=interval), target="HR").report.source
        except DataError as error:
            said = str(error)
    assert "ward.csv" in said
