"""A pandas frame as a table: what a file would be read to, without the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa

from device_runtime.series.words import TIMESTAMPS, first_of
from edge_tsfm.data.tables import Table
from edge_tsfm.errors import DataError

NAME = "DataFrame"  # in messages and reports, in place of a file's name
TIMESTAMP = "timestamp"


def table_of_frame(frame: pd.DataFrame) -> Table:
    """Take a frame as a table; an index that has names, or times, becomes columns.

    Raises `DataError` for a frame without rows, or with columns of one name.
    """
    frame = flat(frame)
    if not len(frame):
        raise DataError(f"{NAME} has columns but no rows")
    twice = [name for name, count in Counter(frame.columns).items() if count > 1]
    if twice:
        raise DataError(f"{NAME} has several columns of one name: {', '.join(twice[:5])}", hint="rename all but one")
    return Table(source=Path(NAME), frame=frame, where=lambda row: f"{NAME}, row {row + 1}")


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose index is no more than a count, columns named by text, times of pandas' own kind."""
    index = frame.index
    if isinstance(index, pd.DatetimeIndex) and index.name is None:
        frame = frame.rename_axis(TIMESTAMP)
    if isinstance(index, pd.DatetimeIndex) or any(name is not None for name in index.names):
        clash = [name for name in frame.index.names if name in frame.columns]
        if clash:
            raise DataError(
                f"{NAME}: {clash[0]} is the name of a column and of the index", hint="frame.reset_index(drop=True)"
            )
        frame = frame.reset_index()
    else:
        frame = frame.reset_index(drop=True)
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    return frame.astype({name: kind for name, column in frame.items() if (kind := _times_of_arrow(column.dtype))})


def _times_of_arrow(kind: object) -> str | pd.DatetimeTZDtype | None:
    """Return pandas' own kind of the times or dates that Arrow holds; None for what is neither."""
    held = kind.pyarrow_dtype if isinstance(kind, pd.ArrowDtype) else pa.null()
    if pa.types.is_timestamp(held) and held.tz is not None:
        return pd.DatetimeTZDtype("us", held.tz)
    return "datetime64[us]" if pa.types.is_timestamp(held) or pa.types.is_date(held) else None


def zone_of(frame: pd.DataFrame, named: str | None) -> object:
    """Return the time zone of a frame's times, None if they have none or their column is unknown."""
    frame = flat(frame)
    column = time_column(frame, named)
    return None if column is None else frame[column].dt.tz


def time_column(frame: pd.DataFrame, named: str | None) -> str | None:
    """Return the column of a flat frame's times: the ``named``, else what a reader knows by name, else the only one.

    None where that column holds no times, or nobody can tell which one it is: a frame may have a date of birth, too.
    """
    names = [str(name) for name in frame.columns]
    held = [name for name, kind in zip(names, frame.dtypes, strict=True) if pd.api.types.is_datetime64_any_dtype(kind)]
    taken = named or first_of(TIMESTAMPS, names)
    if taken is not None:
        held = [name for name in held if name == taken]
    return held[0] if len(held) == 1 else None
