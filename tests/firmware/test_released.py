"""What was released, and the data beside the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from device_runtime.forecast.forecaster import Forecaster

from .conftest import SOURCE
from .samples import forecast, quantiles, same


def test_sample_data(built: Path, library: Path, tmp_path: Path) -> None:
    """The README's first forecast: its bundle, its signed adapter, its series."""
    data = SOURCE / "sample_data"
    key = (data / "key.hex").read_text().strip()
    use = ("--signal", "MAP", "--interval", "1h")
    arguments = (data / "series.csv", "--adapter", data / "ward.etsa", "--key", key, *use)
    code, out, err = forecast(built, library, data / "bundle", *arguments)
    assert code == 0, err
    series = np.genfromtxt(data / "series.csv", delimiter=",", skip_header=1, usecols=1)
    same(quantiles(out), Forecaster.open(data / "bundle", data / "ward.etsa").forecast(series).quantiles)


def test_what_was_released_with_format_1_is_still_read_and_said_to_be_unbound(built: Path, library: Path) -> None:
    """A signed adapter as an earlier version wrote it, on the bundle of that time (sample_data's)."""
    data, old = SOURCE / "sample_data", Path(__file__).parents[1] / "released" / "format-1.etsa"
    series = np.genfromtxt(data / "series.csv", delimiter=",", skip_header=1, usecols=1)
    made = Forecaster.open(data / "bundle", old).forecast(series)
    assert (made.unbound, made.binding) == (True, None)
    key = (data / "key.hex").read_text().strip()
    arguments = (data / "series.csv", "--adapter", old, "--key", key)
    code, out, err = forecast(built, library, data / "bundle", *arguments)
    assert code == 0, err
    assert "unbound: it does not say which signal it is for" in err
    same(quantiles(out), made.quantiles)
