import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edge_tsfm.data import DataOptions, Dataset, read_dataset
from edge_tsfm.errors import DataError

NAN = np.nan


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def hourly(patients: int = 3, rows: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "item_id": np.repeat([f"p{k}" for k in range(patients)], rows),
            "timestamp": np.tile(pd.date_range("2101-03-01 04:07", periods=rows, freq="1h"), patients),
            "HR": rng.integers(60, 120, patients * rows).astype(np.float32) / np.float32(3),
            "SpO2": np.where(rng.random(patients * rows) < 0.3, NAN, 97).astype(np.float32),
            "age": np.repeat([61.5, 70.25, 44.0][:patients], rows).astype(np.float32),
            "sex": np.repeat(["F", "M", "F"][:patients], rows),
        }
    )


def values(data: Dataset) -> dict[str, list[float]]:
    return {one.item_id: one.target.tolist() for one in data.series}


@pytest.mark.parametrize("signal", ["HR", "SpO2"])
def test_csv_gzip_and_parquet_are_the_same_data(tmp_path: Path, signal: str) -> None:
    frame = hourly()
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "b.csv", index=False)
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress((tmp_path / "b.csv").read_bytes()))
    frame.sample(frac=1, random_state=1).to_csv(tmp_path / "d.tsv", sep="\t", index=False)
    read = [read_dataset(p, target=signal) for p in sorted(tmp_path.iterdir())]
    assert len({one.fingerprint for one in read}) == 1
    assert read[0].interval == pd.Timedelta("1h")
    first = read[0].series[0]
    assert first.start == pd.Timestamp("2101-03-01 04:07")
    assert [dict(one.attributes) for one in (read[0].series[0], read[1].series[0])] == [{"age": 61.5, "sex": "F"}] * 2
    np.testing.assert_array_equal(first.target, frame[signal].to_numpy()[:30])
    assert not first.target.flags.writeable


def test_conversion_and_medians_are_the_same_from_csv_and_parquet(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"patient": "p", "minute": range(3_000), "Temp [F]": 0.0})
    frame["Temp [F]"] = rng.uniform(97, 104, 3_000).astype(np.float32)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    # Two values a bin: the median is a mean, and would differ by a rounding if read in two precisions.
    csv, parquet = (
        read_dataset(tmp_path / f"a.{end}", DataOptions(interval="2min"), target="TEMP") for end in ("csv", "parquet")
    )
    np.testing.assert_array_equal(csv.series[0].target, parquet.series[0].target)
    assert csv.report.merged == 1_500


@pytest.mark.parametrize("names", ["item_id,timestamp,target", "unique_id,ds,y", "Patient,Date,Value"])
def test_long_tables_need_no_options(tmp_path: Path, names: str) -> None:
    path = write(tmp_path / "a.csv", names + "\n" + "".join(f"7,2026-01-01 0{h}:00,{h - 1}\n" for h in range(5)))
    data = read_dataset(path)
    assert values(data) == {"7": [-1, 0, 1, 2, 3]}  # not a vital sign: untouched
    assert any("not in the table of signals" in note for note in data.report.notes)
    assert data.report.plausible_range is None


def test_target_says_what_a_value_column_is(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        "item_id,timestamp,target\n" + "".join(f"7,{h},{80 + h}\n" for h in range(4)) + "7,4,0\n",
    )
    data = read_dataset(path, DataOptions(interval="1h"), target="ABPMean")
    assert (data.signal, data.report.unit, data.report.non_positive) == ("MAP", "mmHg", 1)
    assert (data.series[0].start, data.series[0].first_step, data.interval) == (None, 0, pd.Timedelta("1h"))


def test_named_columns_win(tmp_path: Path) -> None:
    frame = hourly().rename(columns={"item_id": "bed", "timestamp": "when"}).assign(patient="everyone")
    frame.to_csv(tmp_path / "a.csv", index=False)
    data = read_dataset(tmp_path / "a.csv", DataOptions(id_column="bed", timestamp_column="when"), target="HR")
    assert data.item_ids == ("p0", "p1", "p2")
    assert data.series[0].attributes["patient"] == "everyone"


def test_steps_of_unknown_length_count_as_steps(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "step,load\n" + "".join(f"{k},{k}\n" for k in range(10, 20)))
    data = read_dataset(path, target="load")
    assert (data.interval, data.report.interval, data.series[0].first_step) == (1.0, "1 steps", 10)
    assert data.series[0].item_id == "a"
    assert any("no id column" in note for note in data.report.notes)


def test_ids_stay_text(tmp_path: Path) -> None:
    text = "patient_id,hour,HR\n" + "".join(f"{p},{h},{70 + h}\n" for p in ("007", "7") for h in range(3))
    assert read_dataset(write(tmp_path / "a.csv", text), target="HR").item_ids == ("007", "7")
    frame = pd.DataFrame({"subject_id": [10.0] * 3, "hour": range(3), "HR": [70.0] * 3})
    frame.to_parquet(tmp_path / "b.parquet")
    assert read_dataset(tmp_path / "b.parquet", target="HR").item_ids == ("10",)


def test_semicolons_decimal_commas_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeffitem_id;timestamp;Temp\r\n" + "".join(f"p1;2026-01-01 0{h}:00;36,{h}\r\n" for h in range(5))
    (tmp_path / "a.csv").write_bytes(text.encode("utf-8"))
    data = read_dataset(tmp_path / "a.csv", target="TEMP")
    np.testing.assert_allclose(data.series[0].target, [36.0, 36.1, 36.2, 36.3, 36.4], rtol=1e-6)


def test_times_with_a_zone_become_utc(tmp_path: Path) -> None:
    text = "item_id,timestamp,HR\n" + "".join(f"p1,2026-03-01T0{h}:00:00+02:00,7{h}\n" for h in range(3, 7))
    data = read_dataset(write(tmp_path / "a.csv", text), target="HR")
    assert data.series[0].start == pd.Timestamp("2026-03-01 01:00")
    frame = pd.read_csv(tmp_path / "a.csv", parse_dates=["timestamp"])
    frame.to_parquet(tmp_path / "b.parquet")
    assert read_dataset(tmp_path / "b.parquet", target="HR").fingerprint == data.fingerprint


def test_zones_may_differ_as_over_a_change_to_summer_time(tmp_path: Path) -> None:
    stamps = ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"]
    text = "item_id,timestamp,HR\n" + "".join(f"p1,{stamp},70\n" for stamp in stamps)
    data = read_dataset(write(tmp_path / "a.csv", text), target="HR")
    assert (len(data.series[0]), data.series[0].start) == (3, pd.Timestamp("2026-03-29 00:00"))


def test_what_cannot_be_a_reading_becomes_missing_and_is_counted(tmp_path: Path) -> None:
    readings = [72, 0, -1, 9, 10, 350, 351, "", 75, 76, 77]
    text = "patient,hour,HR\n" + "".join(f"p1,{h},{v}\n" for h, v in enumerate(readings))
    data = read_dataset(write(tmp_path / "a.csv", text), target="HR")
    got = data.series[0].target
    np.testing.assert_array_equal(
        np.isnan(got), [False, True, True, True, False, False, True, True, False, False, False]
    )
    report = data.report
    assert (report.non_positive, report.implausible, report.missing, report.values) == (2, 2, 1, 6)
    assert "2 values outside 10 to 350 1/min made missing" in report.lines()
    assert read_dataset(tmp_path / "a.csv", target="HR", plausible=(1, 400)).report.implausible == 0


def test_one_vital_sign_in_two_columns_takes_the_arterial_line_and_says_so(tmp_path: Path) -> None:
    text = "patient,hour,NBPMean,ABPMean\n" + "".join(f"p1,{h},70,8{h}\n" for h in range(3))
    data = read_dataset(write(tmp_path / "a.csv", text), target="MAP")
    assert values(data) == {"p1": [80, 81, 82]}
    assert data.report.column == "ABPMean"
    assert any("NBPMean" in note for note in data.report.notes)


EVENTS = """subject_id,stay_id,charttime,itemid,valuenum,valueuom
1,10,2150-01-01 00:05,223761,98.6,?F
1,10,2150-01-01 00:40,223762,38.0,?C
1,10,2150-01-01 00:50,220045,80,bpm
1,10,2150-01-01 02:10,678,100.4,Deg. F
1,10,2150-01-01 03:10,676,37.5,
1,10,2150-01-01 03:20,676,,
1,11,2150-01-01 04:10,676,37.5,Deg. C
1,11,2150-01-01 05:10,676,370,Deg. C
2,12,2150-01-01 05:10,676,36.5,Deg. C
"""


def test_mimic_events_are_resampled_by_stay_in_one_unit(tmp_path: Path) -> None:
    data = read_dataset(write(tmp_path / "a.csv", EVENTS), DataOptions(interval="1h"), target="Temperature")
    assert [(s.item_id, s.segment, s.attributes["stay_id"]) for s in data.series] == [
        ("1", 0, "10"), ("1", 1, "11"), ("2", 0, "12"),
    ]  # fmt: skip
    np.testing.assert_allclose(data.series[0].target, [37.5, NAN, 38.0, 37.5], rtol=1e-6)
    report = data.report
    assert (report.rows, report.converted, report.implausible, report.merged, report.missing) == (
        8,
        2,
        1,
        1,
        1,
    )
    assert data.series[0].start == pd.Timestamp("2150-01-01 00:00")
    assert report.items == 2


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_large_event_tables_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    path = write(tmp_path / "a.csv", EVENTS)
    whole = read_dataset(path, DataOptions(interval="1h"), target="Temperature")
    monkeypatch.setattr("edge_tsfm.data.events.CHUNK_ROWS", rows)
    monkeypatch.setattr("edge_tsfm.data.events.WHOLE_BYTES", 0)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(EVENTS.encode()))
    assert (
        read_dataset(tmp_path / "a.csv.gz", DataOptions(interval="1h"), target="Temperature").fingerprint
        == whole.fingerprint
    )
    write(path, EVENTS + "2,12,2150-01-01 06:10,676,warm,Deg. C\n")
    with pytest.raises(DataError, match=r"'warm'.*line 11"):
        read_dataset(path, DataOptions(interval="1h"), target="Temperature")


def test_long_events_by_name(tmp_path: Path) -> None:
    text = "patient_id,timestamp,vital,value\n" + "".join(
        f"a,2026-01-01 0{h}:00,{v},{x}\n" for h in range(4) for v, x in (("HR", 70 + h), ("TempF", 98.6 + h))
    )
    path = write(tmp_path / "a.csv", text)
    assert values(read_dataset(path, target="HR")) == {"a": [70, 71, 72, 73]}
    temperature = read_dataset(path, target="TEMP")
    assert temperature.series[0].target[0] == pytest.approx(37.0, abs=1e-5)
    assert temperature.report.converted == 4


def test_a_stated_unit_converts_a_column(tmp_path: Path) -> None:
    text = "patient,hour,Temp\n" + "".join(f"p1,{h},98.6\n" for h in range(3))
    data = read_dataset(write(tmp_path / "a.csv", text), DataOptions(unit="°F"), target="Temp")
    assert data.series[0].target == pytest.approx([37.0] * 3, abs=1e-5)


def test_a_unit_in_the_columns_name_converts_it(tmp_path: Path) -> None:
    text = "patient,hour,MAP (kPa)\n" + "".join(f"p1,{h},10\n" for h in range(3))
    data = read_dataset(write(tmp_path / "a.csv", text), target="MAP")
    assert data.series[0].target == pytest.approx([75.00617] * 3, abs=1e-4)
    assert data.report.converted == 3


def test_a_long_absence_cuts_the_series(tmp_path: Path) -> None:
    hours = [*range(20), *range(300, 320)]
    text = "patient,hour,HR\n" + "".join(f"p1,{h},80\n" for h in hours)
    path = write(tmp_path / "a.csv", text)
    data = read_dataset(path, target="HR")
    assert [(len(s), s.segment, s.first_step) for s in data.series] == [(20, 0, 0), (20, 1, 300)]
    assert data.report.gaps == 1
    whole = read_dataset(path, DataOptions(max_gap="300h"), target="HR")
    assert [len(s) for s in whole.series] == [320]


def test_a_folder_of_one_shape_is_one_dataset(tmp_path: Path) -> None:
    for name in ("bed1", "bed2"):
        write(
            tmp_path / f"{name}.csv",
            "timestamp,HR\n" + "".join(f"2026-01-01 0{h}:00,8{h}\n" for h in range(3)),
        )
    write(tmp_path / "README.txt", "not data")
    assert read_dataset(tmp_path, target="HR").item_ids == ("bed1", "bed2")


def test_eicu_offsets_are_minutes(tmp_path: Path) -> None:
    text = "patientunitstayid,observationoffset,heartrate\n" + "".join(f"5,{m},80\n" for m in (-7, -2, 3, 8, 13))
    data = read_dataset(write(tmp_path / "vitalPeriodic.csv", text), target="HR")
    assert data.interval == pd.Timedelta("5min")
    assert values(data) == {"5": [80] * 5}


def test_a_signal_never_measured_in_an_item_leaves_it_out(tmp_path: Path) -> None:
    frame = hourly()
    frame.loc[frame.item_id == "p1", "HR"] = NAN
    frame.to_csv(tmp_path / "a.csv", index=False)
    data = read_dataset(tmp_path / "a.csv", target="HR")
    assert data.item_ids == ("p0", "p2")
    assert data.report.items_without_values == 1


def test_the_report_is_json_ready(tmp_path: Path) -> None:
    import json

    hourly().to_csv(tmp_path / "a.csv", index=False)
    report = read_dataset(tmp_path / "a.csv", target="HR").report
    assert json.loads(json.dumps(report.to_dict()))["items"] == 3
    assert report.source == "a.csv"  # no machine's folders in a record


def test_splits_partition_the_series(tmp_path: Path) -> None:
    frame = pd.concat([hourly(1, 4).assign(item_id=f"p{k:06d}") for k in range(40)])
    frame.to_parquet(tmp_path / "a.parquet")
    data = read_dataset(tmp_path / "a.parquet", target="HR")
    parts = [data.split(name) for name in ("train", "validation", "test")]
    assert sum(map(len, parts)) == 40
    assert all(len(part) for part in parts)
