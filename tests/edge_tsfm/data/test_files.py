"""Which file: whose an id in several files is, what a file's name says, and what of a folder is read."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from edge_tsfm.data import DataOptions, read_dataset
from edge_tsfm.errors import DataError


def write(path: Path, rows: list[str], head: str = "patient,timestamp,MAP") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "\n".join([head, *rows, ""]).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def hours(patient: str, first: int, level: float, count: int = 4) -> list[str]:
    return [f"{patient},2026-03-01 {first + k:02d}:00:00,{level + k}" for k in range(count)]


def test_two_sites_that_count_from_one_are_refused_until_said(tmp_path: Path) -> None:
    write(tmp_path / "siteA.csv", [*hours("1", 0, 60), *hours("2", 0, 70)])
    write(tmp_path / "siteB.csv", hours("1", 0, 110))
    with pytest.raises(DataError, match="1 of 2 ids occur in several files at the same times, such as 1 in") as caught:
        read_dataset(tmp_path, target="MAP")
    assert "--ids-across-files" in caught.value.hint
    apart = read_dataset(tmp_path, DataOptions(ids_across_files="per-file"), target="MAP")
    assert {one.item_id: one.target[0] for one in apart.series} == {"siteA/1": 60, "siteA/2": 70, "siteB/1": 110}


def test_the_kept_case_of_two_sites(cases: Path) -> None:
    with pytest.raises(DataError, match="siteA and siteB"):
        read_dataset(cases / "data" / "f1_two_sites", target="MAP")
    apart = read_dataset(cases / "data" / "f1_two_sites", DataOptions(ids_across_files="per-file"), target="MAP")
    assert {one.item_id: one.target[0] for one in apart.series} == {
        "siteA/1": 60, "siteA/2": 60, "siteB/1": 110, "siteB/2": 110,
    }  # fmt: skip


def test_a_table_that_grows_by_a_file_is_one_patients_and_says_so(tmp_path: Path) -> None:
    write(tmp_path / "march.csv", hours("1", 0, 60))
    write(tmp_path / "april.csv", hours("1", 4, 64))
    data = read_dataset(tmp_path, target="MAP")
    np.testing.assert_array_equal(data.series[0].target, np.arange(60, 68))
    assert any("1 ids occur in several files, at times that do not overlap" in note for note in data.report.notes)


def test_one_patients_overlapping_files_are_one_when_said(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", hours("1", 0, 60))
    write(tmp_path / "b.csv", hours("1", 2, 62))
    with pytest.raises(DataError, match="same times"):
        read_dataset(tmp_path, target="MAP")
    data = read_dataset(tmp_path, DataOptions(ids_across_files="same"), target="MAP")
    np.testing.assert_array_equal(data.series[0].target, np.arange(60, 66))


def test_files_of_one_vital_sign_each_do_not_contradict_one_another(tmp_path: Path) -> None:
    head = "patient,timestamp,signal,value"
    write(tmp_path / "hr.csv", [f"1,2026-03-01 0{k}:00:00,HR,{80 + k}" for k in range(4)], head)
    write(tmp_path / "map.csv", [f"1,2026-03-01 0{k}:00:00,MAP,{60 + k}" for k in range(4)], head)
    np.testing.assert_array_equal(read_dataset(tmp_path, target="MAP").series[0].target, [60, 61, 62, 63])


NAMES = [
    ("patient.001.csv", "patient.001"),
    ("patient.002.csv.gz", "patient.002"),
    ("1.2.840.113619.CSV", "1.2.840.113619"),
    ("Ward 3.TSV", "Ward 3"),
]


def test_a_file_without_ids_is_called_after_all_of_its_name(tmp_path: Path) -> None:
    for level, (name, _) in enumerate(NAMES):
        separator = "\t" if name.endswith("TSV") else ","
        rows = [row.split(",", 1)[1].replace(",", separator) for row in hours("x", 0, 60 + level)]
        write(tmp_path / name, rows, f"timestamp{separator}MAP")
    data = read_dataset(tmp_path, target="MAP")
    levels = {one.item_id: float(one.target[0]) - 60 for one in data.series}
    if len(levels) == 1:
        pytest.fail(f"one patient of {len(NAMES)} files")
    assert levels == {wanted: level for level, (_, wanted) in enumerate(NAMES)}
    for level, (name, wanted) in enumerate(NAMES):
        alone = read_dataset(tmp_path / name, target="MAP")
        assert (alone.item_ids, alone.series[0].target[0]) == ((wanted,), 60 + level)


def test_sub_folders_are_read_where_a_folder_has_no_data_and_told_of_where_it_has(tmp_path: Path) -> None:
    for ward, level in (("a", 60), ("b", 70)):
        write(tmp_path / ward / "p1.csv", [row.split(",", 1)[1] for row in hours("x", 0, level)], "timestamp,MAP")
    write(tmp_path / ".hidden" / "p9.csv", ["broken"])
    write(tmp_path / "__MACOSX" / "._p1.csv", ["broken"])
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    data = read_dataset(tmp_path, target="MAP")
    assert {one.item_id: one.target[0] for one in data.series} == {"a/p1": 60, "b/p1": 70}
    assert not any("not read" in note for note in data.report.notes)
    write(tmp_path / "p1.csv", [row.split(",", 1)[1] for row in hours("x", 0, 80)], "timestamp,MAP")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    (tmp_path / "README.md").write_text("about")
    top = read_dataset(tmp_path, target="MAP")
    assert {one.item_id: one.target[0] for one in top.series} == {"p1": 80}
    assert "3 files not read: a/p1.csv, b/p1.csv, table.xlsx" in top.report.notes


def test_text_files_are_tables_where_there_are_no_others(tmp_path: Path) -> None:
    write(tmp_path / "p1.TXT", [row.split(",", 1)[1] for row in hours("x", 0, 60)], "timestamp,MAP")
    (tmp_path / "README.txt").write_text("about this data\n")
    assert read_dataset(tmp_path, target="MAP").item_ids == ("p1",)
    write(tmp_path / "p2.csv", [row.split(",", 1)[1] for row in hours("x", 0, 70)], "timestamp,MAP")
    both = read_dataset(tmp_path, target="MAP")
    assert both.item_ids == ("p2",)
    assert "1 files not read: p1.TXT" in both.report.notes


def test_the_same_data_in_two_formats_is_not_two_patients(tmp_path: Path) -> None:
    rows = [row.split(",", 1)[1] for row in hours("x", 0, 60)]
    write(tmp_path / "p1.csv", rows, "timestamp,MAP")
    write(tmp_path / "p1.csv.gz", rows, "timestamp,MAP")
    with pytest.raises(DataError, match=r"p1\.csv and p1\.csv\.gz are both called p1"):
        read_dataset(tmp_path, target="MAP")


def test_psv_folders_in_a_folder_are_read_apart(tmp_path: Path) -> None:
    head = "HR|O2Sat|Temp|SBP|MAP|DBP|Resp|ICULOS"
    for ward, level in (("A", 60), ("B", 70)):
        write(tmp_path / ward / "p1.psv", [f"80|97||120|{level + k}|50|15|{k + 1}" for k in range(4)], head)
    data = read_dataset(tmp_path, target="MAP")
    assert {one.item_id: one.target[0] for one in data.series} == {"A/p1": 60, "B/p1": 70}


def test_an_item_without_a_value_is_known_by_name(tmp_path: Path) -> None:
    write(tmp_path / "w.csv", [*hours("1", 0, 60), "2,2026-03-01 00:00:00,", "2,2026-03-01 01:00:00,0"])
    data = read_dataset(tmp_path, target="MAP")
    assert data.empty_items == ("2",)
    assert data.report.items_without_values == 1
