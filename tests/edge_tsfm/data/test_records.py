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
