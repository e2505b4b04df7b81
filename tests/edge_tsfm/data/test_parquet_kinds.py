"""Columns of a Parquet file of every kind that ids, times and values come in."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from edge_tsfm.data import DataOptions, Dataset, read_dataset
from edge_tsfm.errors import DataError

TIMES = pd.date_range("2026-03-01 10:00", periods=24, freq="h")
VALUES = [60 + hour * 7 % 5 for hour in range(24)]
BIG = 90_071_992_547_409_931  # its neighbours are the same float64


def read_frame(folder: Path, **columns: Any) -> Dataset:
    frame = pd.DataFrame({"patient": ["1"] * 24, "timestamp": TIMES, "MAP": VALUES} | columns)
    frame.to_parquet(folder / "a.parquet")
    return read_dataset(folder / "a.parquet", target="MAP")


def items(dataset: Dataset) -> dict[str, list[float]]:
    return {one.item_id: one.target.tolist() for one in dataset.series}


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ([1] * 24, "1"),
        ([1.0] * 24, "1"),
        (pd.Categorical(["1"] * 24), "1"),
        ([BIG] * 24, str(BIG)),
        (np.array([2**64 - 1] * 24, dtype="uint64"), str(2**64 - 1)),
        ([Decimal(BIG)] * 24, str(BIG)),
        ([Decimal("7.00")] * 24, "7"),
        ([b"A-7"] * 24, "A-7"),
        ([b"\xff\x00"] * 24, "ff00"),
    ],
)
def test_ids_of_every_kind(tmp_path: Path, ids: Any, wanted: str) -> None:
    assert items(read_frame(tmp_path, patient=ids)) == {wanted: VALUES}


def test_large_ids_beside_empty_ones_stay_apart(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "stay_id": pd.array([BIG] * 24 + [BIG + 1] * 24 + [None], dtype="Int64"),
            "timestamp": [*TIMES, *TIMES, TIMES[0]],
            "MAP": [*VALUES, *(value + 30 for value in VALUES), 60],
            "unit": ["MICU"] * 48 + ["none"],
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    read = read_dataset(tmp_path / "a.parquet", DataOptions(where=("unit=MICU",)), target="MAP")
    assert items(read) == {str(BIG): VALUES, str(BIG + 1): [value + 30 for value in VALUES]}


@pytest.mark.parametrize(
    "columns",
    [
        {"timestamp": TIMES.tz_localize("Europe/Berlin").tz_convert("UTC")},
        {"timestamp": TIMES.astype("datetime64[s]")},
        {"timestamp": TIMES.astype(str)},
        {"timestamp": None, "date": [one.date() for one in TIMES], "time": [one.time() for one in TIMES]},
        {"timestamp": None, "elapsed": TIMES - TIMES[0]},
    ],
)
def test_times_of_every_kind(tmp_path: Path, columns: dict[str, Any]) -> None:
    frame = pd.DataFrame({"patient": ["1"] * 24, "timestamp": TIMES, "MAP": VALUES} | columns)
    frame.dropna(axis="columns", how="all").to_parquet(tmp_path / "a.parquet")
    read = read_dataset(tmp_path / "a.parquet", target="MAP")
    assert items(read) == {"1": VALUES}
    assert read.interval == pd.Timedelta("1h")


@pytest.mark.parametrize("column", ["patient", "timestamp"])
def test_ids_or_times_in_lists_are_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(DataError, match=f"column '{column}' holds list") as caught:
        read_frame(tmp_path, **{column: [["1"]] * 24})
    assert "one row for each time" in (caught.value.hint or "")
