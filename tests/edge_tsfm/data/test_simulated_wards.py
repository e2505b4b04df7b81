from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edge_tsfm.data import find_signal, make_windows, read_dataset
from edge_tsfm.data.simulate import encode_table, simulate_ward
from edge_tsfm.data.wards import SIMULATED, TIME_CONSTANTS_H, WARDS
from edge_tsfm.data.windows import Windows
from edge_tsfm.errors import ConfigError


@pytest.fixture(scope="module")
def wards() -> dict[str, pd.DataFrame]:
    return {site: simulate_ward(patients=200, site=site) for site in WARDS}


def test_the_same_seed_writes_the_same_patients_however_many() -> None:
    few, many = simulate_ward(patients=3, seed=5), simulate_ward(patients=6, seed=5)
    pd.testing.assert_frame_equal(few, many[many.item_id.isin(few.item_id.unique())])
    other = simulate_ward(patients=3, seed=6)
    assert not np.array_equal(few["HR"].to_numpy()[:30], other["HR"].to_numpy()[:30], equal_nan=True)
    assert not set(few.item_id) & set(other.item_id)


@pytest.mark.parametrize("site", list(WARDS))
def test_values_are_plausible_and_stays_as_asked(wards: dict[str, pd.DataFrame], site: str) -> None:
    frame = wards[site]
    lengths = frame.groupby("item_id").size()
    assert lengths.between(36, 72).all()
    for name in SIMULATED:
        signal = find_signal(name)
        assert signal is not None
        assert frame[name].dropna().between(signal.low, signal.high).all(), name
        assert 0.15 < frame[name].notna().mean() < 0.97
    assert (frame[["SBP", "MAP", "DBP"]].dropna().median().diff().dropna() < 0).all()


def test_ward_a_is_near_the_intensive_care_unit_it_imitates(wards: dict[str, pd.DataFrame]) -> None:
    frame = wards["A"]
    by = frame.groupby("item_id")
    # Hospital A of the PhysioNet/CinC Challenge 2019: mean, spread within a patient, correlation at 1 h.
    for name, mean, within, one_hour in (
        ("HR", 84.5, 9.6, 0.68),
        ("MAP", 78.5, 10.6, 0.39),
        ("RESP", 18.6, 4.0, 0.39),
    ):
        around = frame[name] - by[name].transform("mean")
        assert frame[name].mean() == pytest.approx(mean, rel=0.06)
        assert around.std() == pytest.approx(within, rel=0.25)
        assert around.corr(around.groupby(frame.item_id).shift(1)) == pytest.approx(one_hour, abs=0.15)


def test_signals_move_together(wards: dict[str, pd.DataFrame]) -> None:
    frame = wards["A"]
    around = frame[list(SIMULATED)] - frame.groupby("item_id")[list(SIMULATED)].transform("mean")
    both = around.corr()
    assert both.loc["MAP", "SBP"] > 0.6
    assert both.loc["HR", "RESP"] > 0.15
    assert both.loc["SpO2", "RESP"] < -0.1
    assert both.loc["HR", "TEMP"] > 0.05


def test_readings_go_missing_in_stretches_that_pressures_share(wards: dict[str, pd.DataFrame]) -> None:
    missing = wards["B"][list(SIMULATED)].isna()
    again = missing["MAP"] & missing["MAP"].groupby(wards["B"].item_id).shift(1, fill_value=False)
    assert again.sum() > 1.5 * missing["MAP"].mean() * missing["MAP"].sum()
    assert missing["MAP"].corr(missing["SBP"]) > missing["MAP"].corr(missing["HR"]) + 0.2


def _features(windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = np.nanmean(windows.context, axis=1, keepdims=True)
    scale = np.nanstd(windows.context, axis=1, keepdims=True) + 1e-3
    return np.nan_to_num((windows.context - mean) / scale), mean, scale


def _fit(windows: Windows) -> np.ndarray:
    """Ridge regression from the scaled context to each step ahead: the least that an adapter could learn."""
    x, mean, scale = _features(windows)
    y = (windows.target - mean) / scale
    columns = []
    for h in range(y.shape[1]):
        seen = np.isfinite(y[:, h])
        a = x[seen]
        columns.append(np.linalg.solve(a.T @ a + 30 * np.eye(a.shape[1]), a.T @ y[seen, h]))
    return np.array(columns).T


def _error(weights: np.ndarray, windows: Windows) -> float:
    x, mean, scale = _features(windows)
    return float(np.nanmean((x @ weights * scale + mean - windows.target) ** 2))


@pytest.mark.parametrize("signal", ["HR", "MAP"])
def test_what_is_learnt_on_one_ward_pays_there(tmp_path: Path, signal: str) -> None:
    cut = {}
    for site in WARDS:
        path = tmp_path / f"{site}.parquet"
        path.write_bytes(encode_table(simulate_ward(patients=400, site=site), path))
        data = read_dataset(path, target=signal)
        cut[site] = [
            make_windows(data.split(part), context_length=48, prediction_length=6, stride=6)
            for part in ("train", "test")
        ]
    for here, there in (("A", "B"), ("B", "A")):
        own, other = (_error(_fit(cut[site][0]), cut[here][1]) for site in (here, there))
        assert own < 0.93 * other


def test_minutes_are_the_same_ward_seen_more_often() -> None:
    frame = simulate_ward(patients=4, hours=24, interval="1min", signals=["HR", "Temp"])
    assert list(frame.columns) == ["item_id", "timestamp", "HR", "TEMP", "age", "sex"]
    assert frame.groupby("item_id").size().between(720, 1440).all()
    steps = frame.groupby("item_id")["timestamp"].diff().dropna().unique()
    assert list(steps) == [pd.Timedelta("1min")]
    smooth = frame.groupby("item_id")["HR"].diff().abs().median()
    assert smooth < 4  # neighbouring minutes resemble each other
    assert frame["TEMP"].notna().mean() > 0.6


def test_the_noise_has_a_memory_of_hours_and_unit_variance() -> None:
    from edge_tsfm.data.physiology import _long_memory

    noise = _long_memory(np.random.default_rng(1), 20_000, 1.0)
    assert noise.var(axis=2)[:, :3] == pytest.approx(1.0, abs=0.15)
    lag_one = (noise[:, :, 1:] * noise[:, :, :-1]).mean(axis=(0, 2))
    assert lag_one == pytest.approx(np.exp(-1.0 / np.array(TIME_CONSTANTS_H)), abs=0.05)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_both_files_read_back_as_the_same_data(tmp_path: Path, ending: str) -> None:
    frame = simulate_ward(patients=5, seed=3)
    path = tmp_path / f"ward.{ending}"
    path.write_bytes(encode_table(frame, path))
    data = read_dataset(path, target="TEMP")
    (tmp_path / "other.parquet").write_bytes(encode_table(frame, Path("other.parquet")))
    assert data.fingerprint == read_dataset(tmp_path / "other.parquet", target="TEMP").fingerprint
    assert set(data.series[0].attributes) == {"age", "sex"}
    assert not data.report.notes


@pytest.mark.parametrize(
    "options",
    [
        {"patients": 0},
        {"site": "Z"},
        {"hours": 1},
        {"signals": ["ICP"]},
        {"signals": []},
        {"patients": 10**9},
        {"interval": "x"},
    ],
)
def test_what_cannot_be_simulated_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        simulate_ward(**({"patients": 2} | options))  # type: ignore[arg-type]


def test_unknown_endings_are_refused() -> None:
    with pytest.raises(ConfigError, match="xlsx"):
        encode_table(simulate_ward(patients=1), Path("a.xlsx"))
