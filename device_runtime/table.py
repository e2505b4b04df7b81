"""A CSV of series to contexts and covariates, with the standard library alone: what the device's `forecast` reads."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError

FloatArray = NDArray[np.float32]

MISSING = {"", "na", "nan", "null", "none"}
MAX_TABLE_SIZE = 67_108_864  # characters


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One item of a table, NaN for missing; the names of covariates are their columns."""

    targets: FloatArray  # [N, L]
    past_covariates: dict[str, FloatArray]  # [L] each, those known ahead among them
    future_covariates: dict[str, FloatArray]  # [H] each


def read_items(
    text: str,
    *,
    targets: Sequence[str] = ("target",),
    past_covariates: Sequence[str] = (),
    future_covariates: Sequence[str] = (),
    prediction_length: int = 0,
    id_column: str = "item_id",
    where: str = "input",
) -> dict[str, Item]:
    """Read a long table, one row for each step in time order: item id → its series.

    Without ``id_column`` the table is one item named ``series``. A numeric ``timestamp`` column, where there is one,
    must ascend within an item. With ``future_covariates`` the last ``prediction_length`` rows of every item are the
    steps to forecast: they hold those covariates and nothing else. Raises `InputError` naming the line or the item.
    """
    columns = [*targets, *past_covariates, *future_covariates]
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise InputError(f"column {twice[0]!r} is asked for twice", hint="it is a target or a covariate, once")
    values = _read_columns(text, columns, id_column, where)
    ahead = prediction_length if future_covariates else 0
    return {
        item: _item(rows, targets, past_covariates, future_covariates, ahead, f"{where}: {item}")
        for item, rows in values.items()
    }


def _item(
    rows: dict[str, FloatArray],
    targets: Sequence[str],
    past: Sequence[str],
    future: Sequence[str],
    ahead: int,
    where: str,
) -> Item:
    """Divide an item's columns ``[L + ahead]`` into what was and what is known ahead."""
    length = len(next(iter(rows.values()))) - ahead
    if length < 1:
        raise InputError(
            f"{where}: {length + ahead} rows, want more than the {ahead} to forecast",
            hint="with --future-covariate the last rows, --prediction-length of them, are the steps to forecast",
        )
    for name in (*targets, *past):
        if np.isfinite(rows[name][length:]).any():
            raise InputError(
                f"{where}: {name} has a value in the last {ahead} rows, which are the steps to forecast",
                hint="with --future-covariate add --prediction-length rows that hold nothing but what is known ahead",
            )
    for name in future:
        if not np.isfinite(rows[name][length:]).any():
            raise InputError(f"{where}: {name} has no value in the last {ahead} rows, the steps to forecast")
    return Item(
        targets=np.stack([rows[name][:length] for name in targets]),
        past_covariates={name: rows[name][:length] for name in (*past, *future)},
        future_covariates={name: rows[name][length:] for name in future},
    )


def _read_columns(text: str, columns: Sequence[str], id_column: str, where: str) -> dict[str, dict[str, FloatArray]]:
    """Read the named columns: item id → column → values ``[T]``."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    present = reader.fieldnames or []
    absent = [name for name in columns if name not in present]
    if absent:
        raise InputError(
            f"{where}: no column {absent[0]!r}; it has {', '.join(present) or 'none'}",
            hint="name the values with --target",
        )
    values: dict[str, dict[str, list[float]]] = {}
    stamps: dict[str, str] = {}
    for row in reader:
        item = (row.get(id_column) or "").strip() or "series"
        stamp = (row.get("timestamp") or "").strip()
        if stamp and item in stamps and not _before(stamps[item], stamp):
            raise InputError(f"{where}: line {reader.line_num}: {item}: timestamp {stamp} is not after {stamps[item]}")
        stamps[item] = stamp
        series = values.setdefault(item, {name: [] for name in columns})
        for name in columns:
            series[name].append(_number(row[name], f"{where}: line {reader.line_num}: {name}"))
    if not values:
        raise InputError(f"{where}: no rows after the header")
    return {
        item: {name: np.asarray(one, dtype=np.float32) for name, one in series.items()}
        for item, series in values.items()
    }


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
