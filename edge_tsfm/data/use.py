"""The `Use` of a dataset: its signal, unit and interval, as adapters are bound to them."""

from __future__ import annotations

import pandas as pd

from device_runtime.format.binding import Use
from device_runtime.series.signals import find_signal
from edge_tsfm.data.clock import microseconds
from edge_tsfm.data.series import Dataset


def use_of(dataset: Dataset) -> Use:
    """Return which signal, in which unit and at which interval, ``dataset`` holds."""
    known = find_signal(dataset.signal)
    return Use(
        signal=dataset.signal,
        unit=known.ucum if known else None,
        interval_us=interval_us(dataset.interval) or None,
    )


def interval_us(interval: pd.Timedelta | float) -> int:
    """Return the time between steps in microseconds; 0 for steps of unknown length."""
    return microseconds(interval) if isinstance(interval, pd.Timedelta) else 0
