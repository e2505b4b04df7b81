"""Timestamps and plain step numbers as microseconds."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge_tsfm.data.tables import Table, numbers
from edge_tsfm.errors import ConfigError, DataError

# "timestamp": times; "step": plain numbers of known length; "count": plain numbers of unknown length.
Clock = Literal["timestamp", "step", "count"]
STEP_US = 1_000_000  # what one step of unknown length counts as
MAX_US = 2.0**62  # microseconds from step 0; int64 holds 2^63


def parse_interval(text: str | pd.Timedelta) -> pd.Timedelta:
    """Return ``1h``, ``5min``, ``1s`` ... as a Timedelta; raises `ConfigError` unless it is positive."""
    try:
        interval = pd.Timedelta(text)
    except ValueError as error:
        raise ConfigError(f"interval {text!r} is not a span of time", hint="write 1h, 5min or 1s") from error
    if not interval >= pd.Timedelta("1us"):  # NaT compares false
        raise ConfigError(f"interval {text!r} is not longer than nothing", hint="write 1h, 5min or 1s")
    return interval


def parse_times(table: Table, column: str, *, step: pd.Timedelta | None) -> tuple[NDArray[np.int64], Clock]:
    """Return microseconds ``[R]`` since 1970 (UTC), or since step 0.

    Raises `DataError` for an empty or unreadable field, or when some stamps have a time zone and others have
    none.
    """
    values = table.frame[column]
    missing = values.isna().to_numpy()
    if missing.any():
        raise DataError(f"column {column!r} is empty ({table.where(int(np.argmax(missing)))})")
    if pd.api.types.is_datetime64_any_dtype(values):
        return _microseconds(values), "timestamp"
    if pd.api.types.is_numeric_dtype(values):
        length = STEP_US if step is None else int(step / pd.Timedelta("1us"))
        steps = np.rint(numbers(table, column) * length)
        wild = ~(np.abs(steps) < MAX_US)
        if wild.any():
            row = int(np.argmax(wild))
            raise DataError(f"column {column!r} has {values.iloc[row]} for a step ({table.where(row)})")
        return steps.astype(np.int64), "count" if step is None else "step"
    return _microseconds(_parse_texts(table, column)), "timestamp"


def _parse_texts(table: Table, column: str) -> "pd.Series[pd.Timestamp]":
    values = table.frame[column]
    text = values.astype("str").str.strip()
    zoned = text.str.contains(r"(?:[zZ]|:[0-9.]+\s*[+-]\d\d(?::?\d\d)?)$", regex=True).to_numpy()
    if zoned.any() and not zoned.all():
        row = int(np.argmin(zoned) if zoned[0] else np.argmax(zoned))
        raise DataError(
            f"column {column!r}: some stamps have a time zone and others have none ({table.where(row)})",
            hint="give all of them the same form, such as 2026-03-01T12:00:00Z",
        )
    parsed = pd.to_datetime(text, errors="coerce", format="ISO8601", utc=bool(zoned.any()))
    bad = parsed.isna().to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"column {column!r} has {values.iloc[row]!r} where a timestamp is wanted ({table.where(row)})",
            hint="write ISO 8601 (2026-03-01 12:00:00) or a plain step number with --interval",
        )
    return parsed


def _microseconds(values: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    if values.dt.tz is not None:
        values = values.dt.tz_convert("UTC").dt.tz_localize(None)
    return values.to_numpy().astype("datetime64[us]").astype(np.int64)
