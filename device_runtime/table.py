"""A CSV of series to contexts, with the standard library alone: what `edge-tsfm-device forecast` reads."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError

MISSING = {"", "na", "nan", "null", "none"}
MAX_TABLE_SIZE = 67_108_864  # bytes


def read_contexts(
    text: str, *, target: str = "target", id_column: str = "item_id", where: str = "input"
) -> dict[str, NDArray[np.float32]]:
    """Read a long table, one row for each step in time order: item id → context ``[L]``, NaN for missing.

    Without ``id_column`` the table is one series named ``series``. A numeric ``timestamp`` column, where there is one,
    must ascend within an item. Raises `InputError` naming the line.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    columns = reader.fieldnames or []
    if target not in columns:
        raise InputError(
            f"{where}: no column {target!r}; it has {', '.join(columns) or 'none'}",
            hint="name the values with --target",
        )
    values: dict[str, list[float]] = {}
    stamps: dict[str, str] = {}
    for row in reader:
        item = (row.get(id_column) or "").strip() or "series"
        stamp = (row.get("timestamp") or "").strip()
        if stamp and item in stamps and not _before(stamps[item], stamp):
            raise InputError(f"{where}: line {reader.line_num}: {item}: timestamp {stamp} is not after {stamps[item]}")
        stamps[item] = stamp
        values.setdefault(item, []).append(_number(row[target], f"{where}: line {reader.line_num}: {target}"))
    if not values:
        raise InputError(f"{where}: no rows after the header")
    return {item: np.asarray(series, dtype=np.float32) for item, series in values.items()}


def _number(cell: str | None, where: str) -> float:
    """Read a value; an empty cell is missing."""
    text = (cell or "").strip()
    if text.lower() in MISSING:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: want a number, got {text!r}") from None


def _before(earlier: str, later: str) -> bool:
    """Compare two time stamps: as numbers where both are, else as ISO 8601 text."""
    try:
        return float(earlier) < float(later)
    except ValueError:
        return earlier < later
