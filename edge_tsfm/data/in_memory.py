"""A pandas frame as a table: what a file would be read to, without the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

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
        raise DataError(f"{NAME}: {len(twice)} names are those of several columns: {', '.join(twice[:5])}")
    return Table(source=Path(NAME), frame=frame, where=lambda row: f"{NAME}, row {row + 1}")


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose index is no more than a count, with its columns named by text; the given one stays."""
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
    return frame.set_axis([str(name) for name in frame.columns], axis=1)


def zone_of(frame: pd.DataFrame, timestamp_column: str | None) -> object:
    """Return the time zone of a frame's times, None if they have none or their column is unknown."""
    columns = {str(name): column for name, column in flat(frame).items()}
    named = [columns[timestamp_column]] if timestamp_column in columns else list(columns.values())
    zoned = [column.dt.tz for column in named if isinstance(column.dtype, pd.DatetimeTZDtype)]
    return zoned[0] if len(zoned) == 1 else None
