"""A pandas frame as the device's rules see a table: columns of text, or of plain arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from device_runtime.series.cells import SOME, Cells, Column
from edge_tsfm.data.tables import Table
from edge_tsfm.errors import DataError


def cells_of(table: Table, columns: FrameColumns) -> Cells:
    """Return a table as `device_runtime.series` reads it; columns are converted when they are asked for."""
    return Cells(
        source=table.source.name,
        columns=columns,
        rows=len(table.frame),
        where=table.where,
        delimiter=table.delimiter,
        commas=table.commas,
        notes=table.notes,
        first_cells=columns.some(0, SOME).__getitem__,
    )


class FrameColumns(Mapping[str, Column]):
    """The columns of a frame as arrays, each made once."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self._made: dict[str, Column] = {}
        self._parts: dict[tuple[int, int], FrameColumns] = {}

    def some(self, begin: int, end: int) -> FrameColumns:
        """Return a few rows of the columns, which may not be needed whole."""
        if (begin, end) not in self._parts:
            self._parts[begin, end] = FrameColumns(self._frame.iloc[begin:end])
        return self._parts[begin, end]

    def __getitem__(self, name: str) -> Column:
        if name not in self._made:
            self._made[name] = as_column(self._frame[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._frame.columns)

    def __len__(self) -> int:
        return len(self._frame.columns)


def as_column(values: pd.Series[Any]) -> Column:
    """Return a frame's column as text (``""`` for an empty cell), float64, int64 or datetime64[us].

    Raises `DataError` for complex numbers.
    """
    kind = values.dtype
    if pd.api.types.is_complex_dtype(kind):
        raise DataError(
            f"column {values.name} holds complex numbers", hint="make a column of their size, or of their real parts"
        )
    if pd.api.types.is_datetime64_any_dtype(kind):
        if values.dt.tz is not None:
            values = values.dt.tz_convert("UTC").dt.tz_localize(None)
        return values.to_numpy().astype("datetime64[us]")
    if isinstance(kind, pd.ArrowDtype) and pa.types.is_string(kind.pyarrow_dtype):
        trimmed = pc.utf8_ltrim(pa.chunked_array(values.array.__arrow_array__()), " ")
        return np.asarray(trimmed.to_pandas(), dtype=object)
    if pd.api.types.is_bool_dtype(kind):
        return _texts(values)
    if pd.api.types.is_integer_dtype(kind) and not values.isna().any():
        return values.to_numpy(dtype=np.int64)
    if isinstance(kind, np.dtype) and kind.kind == "f":
        return values.to_numpy()
    if pd.api.types.is_numeric_dtype(kind):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return _texts(values)


def _texts(values: pd.Series[Any]) -> Column:
    cells = values.to_numpy(dtype=object)
    if values.dtype == object and pd.api.types.infer_dtype(cells, skipna=False) == "string":
        return cells
    made = np.empty(len(cells), dtype=object)
    made[:] = ["" if _is_missing(cell) else str(cell) for cell in cells]
    return made


def _is_missing(cell: object) -> bool:
    """Return whether a cell is one of pandas' representations of a missing value."""
    return cell is None or cell is pd.NaT or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell))
