"""The five verbs: frames in and out, the same figures as the commands', times of the steps that are forecast."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import edge_tsfm as et
from device_runtime.errors import SignalMismatchError
from edge_tsfm.cli.forecast import command
from edge_tsfm.errors import ConfigError, DataError, GateRefusedError

BOLT = Path(__file__).resolve().parent.parent / "dummy_bases" / "chronos-bolt"
QUICK = {"base": str(BOLT), "steps": 60, "evaluate_every": 20, "prediction_length": 3, "context_length": 16}


@pytest.fixture(scope="module")
def ward(make_ward: Any) -> Any:
    """Patients of 36 hours, by wall clock."""
    frame = pd.read_csv(make_ward(80))
    frame["timestamp"] = pd.Timestamp("2026-01-30 20:00") + pd.to_timedelta(frame["timestamp"], unit="h")
    return frame


@pytest.fixture(scope="module")
def trained(ward: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("api") / "run"
    return et.train(ward, target="HR", method="bitfit", out=out, force=True, min_observed=4, **QUICK)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return et.export_base(BOLT, out=tmp_path_factory.mktemp("bundle") / "bundle")


def forecasts(bundle: Path, data: Any, **options: Any) -> pd.DataFrame:
    return et.forecast(bundle, data, **({"target": "HR", "prediction_length": 3, "context_length": 16} | options))


def test_an_import_starts_neither_torch_nor_onnxruntime_nor_pandas() -> None:
    code = "import sys, edge_tsfm; print([m for m in ('torch', 'onnxruntime', 'pandas', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_a_frame_is_read_as_its_file_is(ward: pd.DataFrame, trained: Any, tmp_path: Path) -> None:
    ward.to_csv(tmp_path / "ward.csv", index=False)
    of_file = et.train(
        tmp_path / "ward.csv", target="HR", method="bitfit", out=tmp_path / "run", force=True, min_observed=4, **QUICK
    )
    assert of_file.record["data"]["fingerprint"] == trained.record["data"]["fingerprint"]
    assert of_file.parameters_digest == trained.parameters_digest


def test_a_run_of_a_frame_is_evaluated_on_a_frame_and_says_when_there_is_none(ward: pd.DataFrame, trained: Any) -> None:
    found = et.evaluate(trained, ward, resamples=100)
    assert found.record["data"]["fingerprint"] == trained.record["data"]["fingerprint"]
    assert {"adapter", "base"} <= set(found.forecasts)
    with pytest.raises(DataError, match="does not keep") as refused:
        et.evaluate(trained.path)
    assert "data=frame" in str(refused.value.hint)


def test_a_blob_of_a_run_forecasts_what_the_command_forecasts(
    ward: pd.DataFrame, trained: Any, bundle: Path, tmp_path: Path
) -> None:
    blob = et.export_adapter(trained, bundle, data=ward, out=tmp_path / "hr.etsa", force=True)
    assert (tmp_path / "hr.etsa").read_bytes() == blob
    got = forecasts(bundle, ward, adapter=blob)
    ward.to_csv(tmp_path / "ward.csv", index=False)
    arguments = [str(bundle), str(tmp_path / "ward.csv"), "--adapter", str(tmp_path / "hr.etsa")]
    said = json.loads(CliRunner().invoke(command, [*arguments, "--target", "HR", "--json"]).stdout)
    rows = said["forecasts"]
    assert [row["timestamp"] for row in rows] == [when.isoformat() for when in got["timestamp"]]
    np.testing.assert_array_equal(np.float32([row["0.5"] for row in rows]), got["predictions"].to_numpy())
    assert got.attrs["adapter"] == said["adapter"]
    with pytest.raises(SignalMismatchError):
        forecasts(bundle, ward.rename(columns={"HR": "MAP"}), adapter=blob, target="MAP")


def test_forecasts_have_the_layout_and_times_of_chronos(ward: pd.DataFrame, bundle: Path) -> None:
    got = forecasts(bundle, ward)
    assert list(got.columns[:5]) == ["item_id", "timestamp", "target_name", "predictions", "0.1"]
    assert set(got["target_name"]) == {"HR"}
    np.testing.assert_array_equal(got["predictions"], got["0.5"])
    for item, rows in got.groupby("item_id"):
        last = ward.loc[ward["item_id"] == item, "timestamp"].max()
        assert list(rows["timestamp"]) == [last + pd.Timedelta(hours=step) for step in (1, 2, 3)]


def test_times_keep_their_zone_over_a_change_of_the_clocks(bundle: Path) -> None:
    times = pd.date_range("2026-03-28 10:00", periods=16, freq="h", tz="Europe/Berlin")
    assert times[-1].hour == 1  # clocks go from 2:00 to 3:00 then
    frame = pd.DataFrame({"item_id": "p", "timestamp": times, "HR": np.arange(16) + 70.0})
    got = list(forecasts(bundle, frame)["timestamp"])
    assert got == list(pd.date_range(times[-1], periods=4, freq="h")[1:])
    assert [when.hour for when in got] == [3, 4, 5]


def test_times_of_the_index_and_steps_that_are_counted(ward: pd.DataFrame, bundle: Path) -> None:
    one = ward[ward["item_id"] == "p000"]
    indexed = one.set_index("timestamp")
    pd.testing.assert_frame_equal(forecasts(bundle, indexed), forecasts(bundle, one))
    unnamed = one.set_index(pd.DatetimeIndex(one["timestamp"], name=None)).drop(columns="timestamp")
    pd.testing.assert_frame_equal(forecasts(bundle, unnamed), forecasts(bundle, one))
    counted = one.assign(timestamp=range(100, 100 + len(one)))
    assert list(forecasts(bundle, counted)["timestamp"]) == [100 + len(one) + step for step in range(3)]


def test_the_given_frame_is_not_changed(ward: pd.DataFrame, bundle: Path) -> None:
    before = ward.copy(deep=True)
    forecasts(bundle, ward)
    pd.testing.assert_frame_equal(ward, before)


class Foreign:
    """A frame of another library."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def to_pandas(self) -> pd.DataFrame:
        return self._frame


def test_a_frame_of_another_library_is_taken(ward: pd.DataFrame, bundle: Path) -> None:
    pd.testing.assert_frame_equal(forecasts(bundle, Foreign(ward)), forecasts(bundle, ward))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ([1.0, 2.0], "got list"),
        (pd.DataFrame({"HR": []}), "no rows"),
        (pd.DataFrame({"item_id": "a", "timestamp": range(3), "HR": [1j, 2, 3]}), "column HR holds complex numbers"),
        (pd.DataFrame([[1, 2]], columns=["HR", "HR"]), "several columns of one name: HR"),
        (pd.DataFrame({"t": [1]}, index=pd.Index([1], name="t")), "t is the name of a column and of the index"),
    ],
)
def test_what_is_no_table_is_refused(bundle: Path, data: Any, what: str) -> None:
    with pytest.raises(DataError, match=what):
        forecasts(bundle, data)


def test_wrong_options_are_named(ward: pd.DataFrame, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key 'epochs'"):
        et.train(ward, target="HR", out=tmp_path / "run", epochs=3)
    with pytest.raises(ConfigError, match="precision 'int4'"):
        et.export_base(out=tmp_path / "bundle", precision="int4")
    with pytest.raises(ConfigError, match="reads at most"):
        forecasts(bundle, ward, context_length=100_000)
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        _ = et.fit


def test_a_run_that_the_gate_refuses_is_an_error_and_kept(ward: pd.DataFrame, tmp_path: Path) -> None:
    flat = ward.assign(HR=80.0 + (ward.index % 2))
    with pytest.raises(GateRefusedError, match="not accepted"):
        et.train(flat, target="HR", method="bitfit", out=tmp_path / "run", **QUICK | {"steps": 1})
    assert not et.load_run(tmp_path / "run").gate["accepted"]
