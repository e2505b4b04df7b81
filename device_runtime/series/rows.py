"""Which rows of a table hold the target: those that are not empty and meet the conditions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct, named_column
from device_runtime.series.flags import where_rows
from device_runtime.series.layouts import Layout
from device_runtime.series.options import ReadOptions
from device_runtime.series.target import Target
from device_runtime.series.words import TIMESTAMPS, first_of


def without_empty_rows(cells: Cells, time: str | None) -> tuple[Cells, NDArray[np.int64]]:
    """Leave out rows without a time and without anything else, as sheets leave them (``,,,``); also which rows stay.

    ``time`` is the column that was named, if one was. Without a column of times an empty row is a step.
    """
    name = first_of(TIMESTAMPS, cells.names)
    if time is not None:
        name = named_column(cells.names, time, option="--timestamp-column", source=cells.source)
    rows = np.arange(cells.rows)
    if name is None or not cells.is_text(name):
        return cells, rows
    places = np.flatnonzero(cells.texts(name) == "")
    empty = [row for row in places if all(_is_empty(cells, one, int(row)) for one in cells.names)]
    if not empty or len(empty) == cells.rows:
        return cells, rows
    keep = np.ones(cells.rows, dtype=bool)
    keep[empty] = False
    return cells.keep(keep), np.flatnonzero(keep)


def _is_empty(cells: Cells, name: str, row: int) -> bool:
    return cells.is_text(name) and not str(cells.columns[name][row]).strip()


def rows_of(cells: Cells, layout: Layout, wanted: Target, options: ReadOptions) -> tuple[Cells, NDArray[np.int64], int]:
    """Keep the rows of the target that meet the conditions; also which they are, and how many did not meet them."""
    mine = np.ones(cells.rows, dtype=bool)
    if layout.name_column is not None:
        codes, texts = distinct(cells.texts(layout.name_column))
        mine = np.array([text in wanted.events for text in texts], dtype=bool)[codes]
    met = where_rows(cells, options.where) if options.where else np.ones(cells.rows, dtype=bool)
    keep = mine & met
    if not keep.any():
        raise InputError(f"{cells.source}: no row of {wanted.name} meets {' and '.join(options.where)}")
    if keep.all():
        return cells, np.arange(cells.rows), 0
    return cells.keep(keep), np.flatnonzero(keep), int((mine & ~met).sum())
