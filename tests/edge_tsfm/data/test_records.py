import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from edge_tsfm.data import read_dataset
from edge_tsfm.errors import DataError


def numerics(
    folder: Path, name: str, columns: dict[str, list[float]], *, hz: float = 1 / 60, unit: str = "bpm"
) -> None:
    wfdb.wrsamp(
        name,
        fs=hz,
        units=[unit] * len(columns),
        sig_name=list(columns),
        p_signal=np.array(list(columns.values()), dtype=float).T,
        fmt=["16"] * len(columns),
        adc_gain=[10.0] * len(columns),
        baseline=[0] * len(columns),
        write_dir=str(folder),
        base_datetime=dt.datetime(2896, 10, 10, 0, 31, 25),
        comments=["<age>: 60 <sex>: F"],
    )


def test_wfdb_numerics_by_patient_zeros_missing(tmp_path: Path) -> None:
    numerics(tmp_path, "s00001-2896-10-10-00-31n", {"HR": [0, 80, 81.5, np.nan, 83], "SpO2": [90, 0, 0, 97, 98]})
    numerics(tmp_path, "s00001-2896-11-10-00-31n", {"HR": [60, 61, 62]})
    numerics(tmp_path, "s00002-2896-10-10-00-31n", {"PULSE": [60, 61, 62]})
    numerics(tmp_path, "s00003-2896-10-10-00-31", {"HR": [60, 61, 62]}, hz=125)
    data = read_dataset(tmp_path, target="heart_rate")
    assert [(s.item_id, s.segment, s.attributes["record"]) for s in data.series] == [
        ("s00001", 0, "s00001-2896-10-10-00-31n"),
        ("s00001", 1, "s00001-2896-11-10-00-31n"),
    ]
    first = data.series[0]
    np.testing.assert_allclose(first.target, [np.nan, 80, 81.5, np.nan, 83])
    assert first.start == pd.Timestamp("2896-10-10 00:31:25")
    assert (first.attributes["age"], first.attributes["sex"]) == (60.0, "F")
    assert data.interval == pd.Timedelta("1min")
    assert data.report.non_positive == 1
    assert data.report.notes == (
        "2 records without heart_rate left out: s00002-2896-10-10-00-31n, s00003-2896-10-10-00-31",
    )


def test_one_header_is_one_record_in_its_own_unit(tmp_path: Path) -> None:
    numerics(tmp_path, "rec1n", {"ABPMean": [10.0, 12.0, 13.0]}, unit="kPa")
    data = read_dataset(tmp_path / "rec1n.hea", target="MAP")
    assert data.item_ids == ("rec1",)
    np.testing.assert_allclose(data.series[0].target, [75.006, 90.007, 97.508], atol=1e-3)
    assert data.report.converted == 3


def test_wfdb_without_the_signal_or_its_samples(tmp_path: Path) -> None:
    numerics(tmp_path, "rec1n", {"HR": [70.0, 71.0]})
    with pytest.raises(DataError, match="no numerics record has a signal 'MAP'"):
        read_dataset(tmp_path, target="MAP")
    with pytest.raises(DataError, match="which signal"):
        read_dataset(tmp_path)
    (tmp_path / "rec1n.dat").unlink()
    with pytest.raises(DataError, match=r"rec1n.hea: its samples cannot be read"):
        read_dataset(tmp_path, target="HR")
    (tmp_path / "rec1n.hea").write_text("no header\n")
    with pytest.raises(DataError, match="is not a WFDB header"):
        read_dataset(tmp_path, target="HR")


UNITS = {"ABPMean": "mmHg", "HR": "bpm", "SpO2": "%"}


def segment(folder: Path, name: str, columns: dict[str, list[float]], *, per_frame: int = 1) -> None:
    """A segment of a record; each signal has ``per_frame`` samples in each frame of a minute."""
    wfdb.wrsamp(
        name,
        fs=1 / 60,
        units=[UNITS[name] for name in columns],
        sig_name=list(columns),
        e_p_signal=[np.array(values, dtype=float) for values in columns.values()],
        samps_per_frame=[per_frame] * len(columns),
        fmt=["16"] * len(columns),
        adc_gain=[10.0] * len(columns),
        baseline=[0] * len(columns),
        write_dir=str(folder),
    )


def master(folder: Path, name: str, signals: int, *lines: str) -> None:
    frames = sum(int(line.split()[1]) for line in lines)
    head = f"{name}/{len(lines)} {signals} 0.0166666666667 {frames} 00:31:25 10/10/2896"
    (folder / f"{name}.hea").write_text("\n".join([head, *lines, "# <age>: 60 <sex>: F"]) + "\n")


def test_segments_of_a_fixed_layout_are_one_record_of_one_patient(tmp_path: Path) -> None:
    segment(tmp_path, "30_0001", {"ABPMean": [70, 71], "HR": [80, 81]})
    segment(tmp_path, "30_0002", {"ABPMean": [72, 73, 74], "HR": [82, 83, 84]})
    master(tmp_path, "s00003-2896-10-10-00-31n", 2, "30_0001 2", "30_0002 3")
    data = read_dataset(tmp_path, target="MAP")
    assert data.item_ids == ("s00003",)
    np.testing.assert_allclose(data.series[0].target, [70, 71, 72, 73, 74])
    assert data.series[0].start == pd.Timestamp("2896-10-10 00:31:25")
    assert data.series[0].attributes["record"] == "s00003-2896-10-10-00-31n"
    assert not any("left out" in note or "not read" in note for note in data.report.notes)
    whole = wfdb.rdrecord(str(tmp_path / "s00003-2896-10-10-00-31n"), m2s=True)  # wfdb's own joining
    np.testing.assert_allclose(data.series[0].target, whole.p_signal[:, whole.sig_name.index("ABPMean")])


def test_a_variable_layout_has_a_header_of_its_own_gaps_and_segments_without_the_signal(tmp_path: Path) -> None:
    (tmp_path / "31_layout.hea").write_text(
        "31_layout 2 0.0166666666667 0\n~ 0 10/mmHg 16 0 0 0 0 ABPMean\n~ 0 10/% 16 0 0 0 0 SpO2\n"
    )
    segment(tmp_path, "31_0001", {"ABPMean": [70, 71]})
    segment(tmp_path, "31_0002", {"SpO2": [97, 98]})
    segment(tmp_path, "31_0003", {"SpO2": [96], "ABPMean": [75]})
    master(tmp_path, "p000031-2896-10-10-00-31n", 2, "31_layout 0", "31_0001 2", "~ 3", "31_0002 2", "31_0003 1")
    data = read_dataset(tmp_path, target="MAP")
    assert data.item_ids == ("p000031",)
    np.testing.assert_allclose(data.series[0].target, [70, 71, *[np.nan] * 5, 75])
    whole = wfdb.rdrecord(str(tmp_path / "p000031-2896-10-10-00-31n"), m2s=True)
    np.testing.assert_allclose(data.series[0].target, whole.p_signal[:, whole.sig_name.index("ABPMean")])
    assert len(read_dataset(tmp_path, target="SpO2").series[0]) == 3


def test_a_record_may_begin_with_a_gap(tmp_path: Path) -> None:
    segment(tmp_path, "32_0001", {"ABPMean": [70, 71]})
    master(tmp_path, "s00032-2896-10-10-00-31n", 1, "~ 4", "32_0001 2")
    data = read_dataset(tmp_path / "s00032-2896-10-10-00-31n.hea", target="MAP")
    np.testing.assert_allclose(data.series[0].target, [70, 71])
    assert data.series[0].start == pd.Timestamp("2896-10-10 00:35:25")


def test_several_samples_in_a_frame_are_read_as_they_are_not_averaged(tmp_path: Path) -> None:
    segment(tmp_path, "33_0001", {"ABPMean": [70, 0, 72, 73]}, per_frame=2)
    segment(tmp_path, "33_0002", {"ABPMean": [74, 75]}, per_frame=2)
    master(tmp_path, "s00033-2896-10-10-00-31n", 1, "33_0001 2", "33_0002 1")
    data = read_dataset(tmp_path, target="MAP")
    assert data.interval == pd.Timedelta("30s")
    np.testing.assert_allclose(data.series[0].target, [70, np.nan, 72, 73, 74, 75])  # a mean would be 35, 72.5


def test_a_clock_of_a_rounded_rate_does_not_drift(tmp_path: Path) -> None:
    numerics(tmp_path, "s00034-2896-10-10-00-31n", {"HR": [80.0] * 9_000})
    text = (tmp_path / "s00034-2896-10-10-00-31n.hea").read_text()
    (tmp_path / "s00034-2896-10-10-00-31n.hea").write_text(text.replace("0.016666666666666666", "0.0166666666667"))
    data = read_dataset(tmp_path, target="HR")
    assert (data.interval, len(data.series[0])) == (pd.Timedelta("1min"), 9_000)


def test_segments_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    segment(tmp_path, "35_0001", {"ABPMean": [70, 71]})
    master(tmp_path, "s00035-2896-10-10-00-31n", 1, "35_0001 5")
    with pytest.raises(DataError, match="segment 35_0001 has 2 frames"):
        read_dataset(tmp_path, target="MAP")
    (tmp_path / "35_0001.hea").unlink()
    with pytest.raises(DataError, match=r"35_0001\.hea is not a WFDB header"):
        read_dataset(tmp_path, target="MAP")


def test_records_and_loose_segments_of_one_subject_stay_together(tmp_path: Path) -> None:
    for name in ("3000003_0001", "3000003_0002"):
        segment(tmp_path, name, {"ABPMean": [70, 71]})
    numerics(tmp_path, "81739927", {"MAP": [80.0, 81.0]}, unit="mmHg")
    header = tmp_path / "81739927.hea"
    header.write_text(header.read_text() + "# subject_id 10014354\n")
    numerics(tmp_path, "81739999", {"MAP": [80.0, 81.0]}, unit="mmHg")
    header = tmp_path / "81739999.hea"
    header.write_text(header.read_text() + "# subject_id 10014354\n")
    data = read_dataset(tmp_path, target="MAP")
    assert data.item_ids == ("10014354", "3000003")
    assert len(data.series) == 4


def test_the_kept_case_of_segments(cases: Path) -> None:
    data = read_dataset(cases / "data" / "w3_multisegment", target="MAP")
    assert [(one.item_id, len(one)) for one in data.series] == [("s00003", 120)]


def bidmc(folder: Path, number: int, patient: str | None) -> None:
    name = f"bidmc_{number:02d}"
    (folder / f"{name}_Numerics.csv").write_text(
        "Time [s], HR, PULSE, RESP, SpO2\n" + "".join(f"{k},{80 + number},93,NaN,97\n" for k in range(20))
    )
    lines = [name, "Age: 88", "Gender: M", *([f"MIMIC II matched wdb ID: {patient}"] if patient else [])]
    (folder / f"{name}_Fix.txt").write_text("\n".join(lines) + "\n")


def test_bidmc_goes_by_patient_not_by_record(tmp_path: Path) -> None:
    for number, patient in ((1, "s02"), (2, "s01"), (3, "s02")):
        bidmc(tmp_path, number, patient)
    data = read_dataset(tmp_path, target="HR")
    assert [(s.item_id, s.attributes["record"], s.target[0]) for s in data.series] == [
        ("s01", "bidmc_02", 82), ("s02", "bidmc_01", 81), ("s02", "bidmc_03", 83),
    ]  # fmt: skip
    assert data.interval == pd.Timedelta("1s")
    assert data.series[0].attributes["age"] == 88.0


def test_bidmc_without_a_patient_is_refused(tmp_path: Path) -> None:
    bidmc(tmp_path, 1, None)
    with pytest.raises(DataError, match=r"bidmc_01_Fix\.txt does not name the patient"):
        read_dataset(tmp_path, target="HR")
    (tmp_path / "bidmc_01_Fix.txt").unlink()
    with pytest.raises(DataError, match=r"has no bidmc_01_Fix\.txt"):
        read_dataset(tmp_path, target="HR")
