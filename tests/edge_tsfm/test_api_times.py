"""Times of the steps that are forecast, held against pandas' own calendar and chronos-forecasting's `predict_df`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chronos import BaseChronosPipeline

import edge_tsfm as et
from edge_tsfm.errors import DataError

BOLT = Path(__file__).resolve().parent.parent / "dummy_bases" / "chronos-bolt"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return et.export_base(BOLT, out=tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return BaseChronosPipeline.from_pretrained(BOLT)


def table(times: pd.DatetimeIndex | range) -> pd.DataFrame:
    wave = np.sin(np.arange(len(times)) / 5) * 9 + 80
    return pd.concat(
        [pd.DataFrame({"item_id": item, "timestamp": times, "target": wave + at}) for at, item in enumerate("ab")]
    )


def times_of(bundle: Path, frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    asked: dict[str, Any] = {"target": "target", "prediction_length": 4, "context_length": 16, **options}
    return et.forecast(bundle, frame, **asked)


@pytest.mark.parametrize(
    ("start", "frequency"),
    [
        ("2024-02-10 00:00", "D"),  # over the 29th of February
        ("2026-01-30 20:00", "h"),
        ("2025-12-31 22:00", "15min"),
        ("2023-09-01", "MS"),
        ("2023-08-31", "ME"),
        ("2015-01-01", "QS"),
        ("2004-01-01", "YS"),
    ],
)
def test_times_are_those_of_pandas_and_of_chronos(bundle: Path, pipeline: Any, start: str, frequency: str) -> None:
    every = pd.date_range(start, periods=24, freq=frequency)
    frame = table(every[:20])
    got = times_of(bundle, frame)
    for _, rows in got.groupby("item_id"):
        assert list(rows["timestamp"]) == list(every[20:])
    theirs = pipeline.predict_df(frame, prediction_length=4)
    assert list(got["timestamp"]) == list(theirs["timestamp"])
    assert list(got["item_id"]) == list(theirs["item_id"])
    assert list(got.columns) == list(theirs.columns)


@pytest.mark.parametrize(
    ("start", "frequency", "zone"),
    [
        ("2026-03-28 10:00", "h", "Europe/Berlin"),  # 2:00 to 3:00 does not happen in the hours that follow
        ("2026-10-24 10:00", "h", "Europe/Berlin"),  # 2:00 to 3:00 happens twice
        ("2026-03-12 00:00", "D", "Europe/Berlin"),  # a day of 23 hours among those that were seen
        ("2026-03-07 00:00", "D", "Europe/Berlin"),  # and among those that are forecast
        ("2026-10-20 08:00", "D", "America/New_York"),
        ("2025-01-01 00:00", "MS", "Europe/Berlin"),
        ("2026-03-12 00:00", "D", "UTC"),
    ],
)
def test_times_of_a_zone_follow_its_clocks(bundle: Path, start: str, frequency: str, zone: str) -> None:
    every = pd.date_range(start, periods=24, freq=frequency, tz=zone)
    got = times_of(bundle, table(every[:20]))
    for _, rows in got.groupby("item_id"):
        assert list(rows["timestamp"]) == list(every[20:])
        assert str(rows["timestamp"].dt.tz) == zone


def test_an_interval_that_was_said_is_no_calendar(bundle: Path) -> None:
    days = table(pd.date_range("2026-01-01", periods=20, freq="D"))
    assert times_of(bundle, days, interval="1d")["timestamp"][0] == pd.Timestamp("2026-01-21")
    months = table(pd.date_range("2024-01-01", periods=20, freq="MS"))
    got = times_of(bundle, months, interval="1d", min_observed=1)["timestamp"]
    assert list(got[:2]) == [pd.Timestamp("2025-08-02"), pd.Timestamp("2025-08-03")]


@pytest.mark.parametrize("frequency", ["QE", "QS-FEB", "QE-JAN", "YE", "YS-APR"])
def test_quarters_and_years_go_on_in_their_own_month(bundle: Path, frequency: str) -> None:
    every = pd.date_range("2001-01-01", periods=24, freq=frequency)
    got = times_of(bundle, table(every[:20]))
    for _, rows in got.groupby("item_id"):
        assert list(rows["timestamp"]) == list(every[20:])


def test_plain_steps_go_on_where_they_stopped(bundle: Path) -> None:
    got = times_of(bundle, table(range(2, 62, 3)))  # 2, 5, 8 … 59
    assert list(got["timestamp"][:4]) == [62, 65, 68, 71]


@pytest.mark.parametrize("kind", ["timestamp[us][pyarrow]", "date32[pyarrow]"])
def test_times_that_arrow_holds_are_times(bundle: Path, kind: str) -> None:
    every = pd.date_range("2024-01-01", periods=24, freq="MS")
    frame = table(every[:20])
    got = times_of(bundle, frame.assign(timestamp=pd.Series(frame["timestamp"].dt.date, dtype=kind)))
    assert list(got["timestamp"][:4]) == list(every[20:])


def test_times_of_arrow_keep_their_zone(bundle: Path) -> None:
    every = pd.date_range("2026-03-28 10:00", periods=24, freq="h", tz="Europe/Berlin")
    frame = table(every[:20]).astype({"timestamp": "timestamp[us, tz=Europe/Berlin][pyarrow]"})
    assert list(times_of(bundle, frame)["timestamp"][:4]) == list(every[20:])


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_another_date_in_the_frame_is_not_its_clock(bundle: Path, zone: str | None) -> None:
    every = pd.date_range("2026-03-25", periods=24, freq="D", tz="Europe/Berlin")
    born = pd.Timestamp("1950-02-01", tz=zone)
    got = times_of(bundle, table(every[:20]).assign(born=born))
    assert list(got["timestamp"][:4]) == list(every[20:])
    months = table(pd.date_range("2024-01-01", periods=24, freq="MS")[:20]).assign(born=born)
    got = times_of(bundle, months)
    assert got["timestamp"].dt.tz is None
    assert got["timestamp"][0] == pd.Timestamp("2025-09-01")


def test_dates_beside_steps_are_not_their_clock(bundle: Path) -> None:
    frame = table(range(20))
    born = pd.Series(np.where(frame["item_id"] == "a", "1950-01-01", "1960-02-01")).astype("datetime64[us]").to_numpy()
    assert list(times_of(bundle, frame.assign(born=born))["timestamp"][:2]) == [20, 21]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_polars_frame_gives_what_its_pandas_frame_gives(bundle: Path, unit: str) -> None:
    polars = pytest.importorskip("polars", reason="comes with the extra [dev]")
    frame = table(pd.date_range("2026-03-28 10:00", periods=20, freq="h", tz="Europe/Berlin"))
    other = polars.from_pandas(frame).with_columns(
        polars.col("timestamp").dt.cast_time_unit(unit), polars.col("item_id").cast(polars.Categorical)
    )
    wanted, got = times_of(bundle, frame), times_of(bundle, other)
    assert list(got["timestamp"]) == list(wanted["timestamp"])
    pd.testing.assert_frame_equal(got.drop(columns="timestamp"), wanted.drop(columns="timestamp"))
    with pytest.raises(DataError, match="LazyFrame holds no rows yet"):
        times_of(bundle, other.lazy())


def test_an_import_takes_less_time_than_numpys() -> None:
    def seconds(module: str) -> float:
        code = f"import time; t = time.process_time(); import {module}; print(time.process_time() - t)"
        said = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
                for _ in range(3)]  # fmt: skip
        return min(map(float, said))

    assert seconds("edge_tsfm") < seconds("numpy") / 2  # 0.005 s to 0.08 s where this was written
