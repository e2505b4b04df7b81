"""One file through the workstation's reader and the device's: the same series, or both refuse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from device_runtime.errors import InputError
from device_runtime.series.dialect import read_csv
from device_runtime.series.options import ReadOptions
from device_runtime.series.read import read
from edge_tsfm.data import DataOptions, read_dataset
from edge_tsfm.data.clock import microseconds
from edge_tsfm.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a reader made of a file: series by item and segment, or why it refused."""

    series: dict[tuple[str, int], tuple[int, np.ndarray]]  # start in microseconds or steps, values
    unit: str | None = None
    interval_us: int | None = None
    refused: str | None = None
    hint: str | None = None

    def values(self) -> dict[str, list[float]]:
        """Return the values of items with one series each."""
        return {item: [float(str(v)) for v in values] for (item, _), (_, values) in self.series.items()}


def on_device(path: Path, target: str | None, **options: Any) -> Read:
    """Read with `device_runtime` alone."""
    try:
        asked = ReadOptions(**options)
        reading = read(read_csv(path.read_bytes(), path.name), target, asked, otherwise=path.name.split(".")[0])
    except InputError as error:
        return Read(series={}, refused=str(error.args[0]), hint=error.hint)
    steps = 1 if reading.clock == "timestamp" else reading.every_us
    return Read(
        series={(s.item_id, s.segment): (s.start_us // steps, s.values) for s in reading.stretches()},
        unit=reading.unit,
        interval_us=reading.interval_us,
    )


def on_workstation(path: Path, target: str | None, **options: Any) -> Read:
    """Read as `edge-tsfm train` does."""
    try:
        data = read_dataset(path, DataOptions.of(options), target=target)
    except (DataError, ConfigError) as error:
        return Read(series={}, refused=str(error), hint=error.hint)
    return Read(
        series={
            (s.item_id, s.segment): (s.first_step if s.start is None else microseconds(s.start), s.target)
            for s in data.series
        },
        unit=data.report.unit,
        interval_us=None if isinstance(data.interval, float) else microseconds(data.interval),
    )


def same_on_both(path: Path, target: str | None, **options: Any) -> Read:
    """Read on both sides, assert that they agree value by value, and return what they read."""
    device, workstation = on_device(path, target, **options), on_workstation(path, target, **options)
    assert (device.refused is None) == (workstation.refused is None), (device.refused, workstation.refused)
    assert (device.unit, device.interval_us) == (workstation.unit, workstation.interval_us)
    assert list(device.series) == list(workstation.series)
    for key, (start, values) in device.series.items():
        assert start == workstation.series[key][0], key
        np.testing.assert_array_equal(values, workstation.series[key][1], err_msg=str(key))
    return device
