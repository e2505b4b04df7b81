"""Columns that are constant within each stay (age, sex, unit ...), for reports by subgroup."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from device_runtime.series.cells import Column, distinct, is_missing
from device_runtime.series.numerals import Numerals
from device_runtime.series.reading import Reading
from device_runtime.series.signals import find_signal
from edge_tsfm.data.frames import FrameColumns
from edge_tsfm.data.series import Attribute, Attributes


def take_attributes(table: FrameColumns, reading: Reading) -> Attributes:
    """Return what is known of each part ``[P]``: by the layout's columns, else by every column that never changes."""
    layout, parts = reading.layout, reading.parts
    found: list[dict[str, Attribute]] = [{} for _ in parts.names]
    if layout.part_column is not None:
        for one, name in zip(found, parts.names, strict=True):
            one[layout.part_column] = name
    used = {layout.id_column, layout.part_column, *layout.timestamp_columns, reading.target.column}
    columns = layout.attributes
    if columns is None:
        columns = tuple(name for name in table if name not in used and find_signal(name) is None)
    own = reading.kept[parts.part == parts.part[0]][:64]
    together = int((own == own[0] + np.arange(len(own))).sum())
    first = table.some(int(own[0]), int(own[0]) + together)
    for name in columns:
        if layout.attributes is None and sum(_is_present(cell) for cell in set(first[name].tolist())) > 1:
            continue  # it changes: no need to look at all of it
        column = table[name]
        if column.dtype.kind == "M":
            continue
        column = column[reading.kept]
        for index, value in _constant(
            column, parts.part, len(found), reading.numerals, strict=layout.attributes is None
        ).items():
            found[index][name] = value
    return tuple(found)


def _constant(
    column: Column, part: NDArray[np.int64], parts: int, numerals: Numerals, *, strict: bool
) -> dict[int, Attribute]:
    """Return each part's first value of a column; nothing when ``strict`` and it changes within some part."""
    codes, cells = distinct(column)
    present = np.array([_is_present(cell) for cell in cells], dtype=bool)[codes]
    owner, codes = part[present], codes[present]
    first = np.full(parts, -1, dtype=np.int64)
    first[owner[::-1]] = codes[::-1]  # of several, the last written stays: the first in the file
    if strict and (codes != first[owner]).any():
        return {}
    named = _named(cells, numerals)
    return {part: named[code] for part, code in enumerate(first) if code >= 0}


def _is_present(cell: object) -> bool:
    return not is_missing(cell) if isinstance(cell, str) else not _is_nan(cell)


def _is_nan(cell: object) -> bool:
    return isinstance(cell, float | np.floating) and bool(np.isnan(cell))


def _named(cells: Sequence[object], numerals: Numerals) -> list[Attribute]:
    """Return cells as numbers where all of them are, else as text."""
    if not all(isinstance(cell, str) for cell in cells):
        return [float(str(cell)) for cell in cells]  # through its shortest text: an age of 83.14 stays 83.14
    numbers = [numerals.number(str(cell)) for cell in cells]
    if None in numbers:
        return [str(cell).strip() for cell in cells]
    return [float(number) for number in numbers if number is not None]
