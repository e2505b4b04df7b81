"""Real vital signs, where they are at hand; counts taken from the files by other means."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edge_tsfm.data import DataOptions, Dataset, make_windows, read_dataset


@pytest.fixture(scope="module")
def hospital_a(reference_data: Path) -> Dataset:
    return read_dataset(reference_data / "physionet2019_hospital_a.parquet", target="MAP")


def test_hospital_a_needs_no_options(hospital_a: Dataset) -> None:
    report = hospital_a.report
    assert (report.rows, report.items, report.values) == (790_215, 20_334, 709_357)
    assert (report.items_without_values, report.non_positive, report.implausible) == (2, 0, 0)
    assert hospital_a.interval == pd.Timedelta("1h")
    assert hospital_a.series[0].attributes["Age"] == 83.14


def test_hospital_a_test_windows_are_the_published_ones(hospital_a: Dataset) -> None:
    begin = time.perf_counter()
    test = make_windows(hospital_a.split("test"), context_length=48, prediction_length=6, stride=6)
    train = make_windows(hospital_a.split("train"), context_length=48, prediction_length=6, stride=12)
    assert time.perf_counter() - begin < 2
    assert (len(test), len(train)) == (7_075, 22_781)
    last = np.array([context[np.isfinite(context)][-1] for context in test.context])
    error = (last[:, None] - test.target)[np.isfinite(test.target)]
    assert float((error**2).mean()) == pytest.approx(168.8, abs=0.06)  # persistence, data/README's protocol


def test_the_psv_folder_holds_the_same_patients(reference_data: Path, hospital_a: Dataset) -> None:
    psv = read_dataset(reference_data / "physionet2019_psv", target="MAP")
    same = {one.item_id: one for one in hospital_a.series}
    assert len(psv.series) == 120
    for one in psv.series:
        assert one.first_step == same[one.item_id].first_step
        np.testing.assert_array_equal(one.target, same[one.item_id].target)


def test_mimic_demo_events(reference_data: Path) -> None:
    data = read_dataset(reference_data / "mimic3_demo" / "vitals_long.csv.gz", DataOptions(interval="1h"), target="SBP")
    report = data.report
    assert report.items == 98
    assert report.rows == 15_637
    assert report.implausible == 2  # one is 11,647 mmHg
    assert max(np.nanmax(one.target) for one in data.series) <= 375
    temperature = read_dataset(
        reference_data / "mimic3_demo" / "vitals_long.csv.gz", DataOptions(interval="1h"), target="TEMP"
    )
    assert temperature.report.converted == 3_632
    assert 36 < np.nanmean(np.concatenate([one.target for one in temperature.series])) < 38


def test_bidmc_and_wfdb(reference_data: Path) -> None:
    bidmc = read_dataset(reference_data / "bidmc", target="RESP")
    assert (bidmc.report.items, bidmc.report.series) == (46, 53)
    stream = read_dataset(reference_data / "wfdb_numerics" / "s00001-2896-10-10-00-31n.hea", target="HR")
    sheet = read_dataset(reference_data / "wfdb_numerics" / "s00001-2896-10-10-00-31n.csv", target="HR")
    np.testing.assert_allclose(stream.series[0].target, sheet.series[0].target, rtol=1e-6)
    assert len(stream.series[0]) == 1_936
    assert stream.item_ids == ("s00001",)


def test_other_domains_pass_untouched(reference_data: Path) -> None:
    ett = read_dataset(reference_data / "ett" / "ETTh1.csv", target="OT")
    raw = pd.read_csv(reference_data / "ett" / "ETTh1.csv")["OT"].to_numpy(np.float32)
    np.testing.assert_array_equal(ett.series[0].target, raw)
    taxi = read_dataset(reference_data / "nab" / "nyc_taxi.csv")
    assert (taxi.interval, taxi.report.values) == (pd.Timedelta("30min"), 10_320)
