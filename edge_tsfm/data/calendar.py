"""Times of a frame on a calendar: days in a time zone, two of which a year are not 24 hours long, and months."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from edge_tsfm.data.in_memory import flat, time_column

YEAR = 12  # months


@dataclass(frozen=True, kw_only=True, eq=False)
class ByCalendar:
    """A frame whose steps all have the same length, and the way back to times on the calendar."""

    frame: pd.DataFrame
    stamps: Callable[[pd.Series[Any]], pd.Series[Any]]  # times of steps in ``frame`` → times on the calendar


def by_calendar(frame: pd.DataFrame, named: str | None = None) -> ByCalendar | None:
    """Convert a frame whose times are all days in a time zone, or all starts or ends of months.

    Days become times without a zone, months are numbered. Return None for every other frame, which is read unchanged.
    ``named`` is the column of the times; without it, the one known by its name, else the only one.
    """
    frame = flat(frame)
    column = time_column(frame, named)
    if column is None or frame[column].isna().any() or frame[column].nunique() < 2:
        return None
    times = frame[column]
    zone = times.dt.tz
    wall = times if zone is None else times.dt.tz_localize(None)
    months = _months(wall)
    if months is not None:
        numbers, ends = months
        return ByCalendar(
            frame=frame.assign(**{column: numbers}),
            stamps=lambda steps: _in_zone(_of_months(steps, ends=ends), zone),
        )
    if zone is None or not _at_one_time_of_day(wall):
        return None
    return ByCalendar(frame=frame.assign(**{column: wall}), stamps=lambda steps: _in_zone(steps, zone))


def _at_one_time_of_day(times: pd.Series[Any]) -> bool:
    return bool((times - times.dt.normalize()).nunique() == 1)


def _months(wall: pd.Series[Any]) -> tuple[pd.Series[Any], bool] | None:
    """Return the number of each time's month, and whether all times are last days of months; None for other times."""
    starts, ends = bool(wall.dt.is_month_start.all()), bool(wall.dt.is_month_end.all())
    if not (starts or ends) or not (wall == wall.dt.normalize()).all():
        return None
    return wall.dt.year * YEAR + wall.dt.month - 1, ends


def _of_months(numbers: pd.Series[Any], *, ends: bool) -> pd.Series[Any]:
    """Return the first or last days of the months with these numbers."""
    months = (numbers.to_numpy(dtype=np.int64) - 1970 * YEAR).astype("datetime64[M]") + int(ends)
    days = months.astype("datetime64[D]") - np.timedelta64(int(ends), "D")
    return pd.Series(days.astype("datetime64[us]"), index=numbers.index)


def _in_zone(wall: pd.Series[Any], zone: Any) -> pd.Series[Any]:
    """Put wall-clock times into a zone: an ambiguous one is the earlier, a nonexistent one moves to the next valid."""
    if zone is None:
        return wall
    zoned: pd.Series[Any] = wall.dt.tz_localize(
        zone, ambiguous=np.ones(len(wall), dtype=bool), nonexistent="shift_forward"
    )
    return zoned
