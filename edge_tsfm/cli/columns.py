"""The columns of a data file, for `inspect` without ``--target``: how many values each has, and what it may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.series.cells import Cells, distinct, is_missing

if TYPE_CHECKING:
    from device_runtime.series.layouts import Layout
    from device_runtime.series.numerals import Numerals
    from device_runtime.series.options import ReadOptions


def list_columns(path: Path, options: ReadOptions) -> dict[str, Any]:
    """Describe every column of a data file or folder, or every kind of event of a table of events.

    Raises `DataError` for a format that no reader understands, or for an option that names no existing column.
    """
    from device_runtime.series.columns import find_layout
    from device_runtime.series.numerals import Numerals, decide
    from edge_tsfm.data.frames import FrameColumns, cells_of
    from edge_tsfm.data.names import files_below, has_ending
    from edge_tsfm.data.sources import open_source
    from edge_tsfm.errors import DataError, as_data_errors

    headers = [one for one in (files_below(path) if path.is_dir() else [path]) if has_ending(one, (".hea",))]
    if headers:
        return {"data": path.name, "layout": "WFDB", "records": len(headers), "signals": _wfdb(headers)}
    table = open_source(path, target=None, options=options)
    cells = replace(cells_of(table, FrameColumns(table.frame)), dates=options.dates())
    layout, numerals, notes = None, Numerals(), list(cells.notes)
    try:
        with as_data_errors():
            layout = find_layout(cells, options, table.layout)
            notes += layout.notes
            numerals = decide(cells, [layout.id_column or "", layout.part_column or ""], decimal=options.decimal)
            notes += [numerals.note] if numerals.note else []
    except DataError as error:
        notes.append(f"{error}; {error.hint}" if error.hint else str(error))
    facts: dict[str, Any] = {"data": path.name, "rows": cells.rows}
    if layout is not None:
        facts["layout"] = layout.name
        if layout.id_column is not None:
            facts["items"] = len(distinct(cells.texts(layout.id_column))[1])
    if notes:
        facts["note"] = "; ".join(notes)
    if layout is not None and layout.name_column is not None and layout.value_column is not None:
        facts["signals"] = _events(cells, layout.name_column, layout.value_column, numerals)
    else:
        facts["columns"] = [_column(cells, name, layout, numerals) for name in cells.names]
    return facts


def _numbers(cells: Cells, name: str, numerals: Numerals) -> tuple[NDArray[np.float64], int]:
    """Return a column as numbers ``[R]``, NaN for missing values, and how many of its cells are not numbers."""
    column = cells.columns[name]
    if column.dtype.kind in "fi":
        return column.astype(np.float64), 0
    codes, texts = distinct(cells.texts(name))
    read = [numerals.number(text) for text in texts]
    other = np.array([number is None for number in read], dtype=bool)
    values = np.array([np.nan if number is None else number for number in read], dtype=np.float64)
    return values[codes], int(other[codes].sum())


def _column(cells: Cells, name: str, layout: Layout | None, numerals: Numerals) -> dict[str, Any]:
    """Count the values of one column, find their range, and guess what the column is."""
    codes, texts = distinct(cells.texts(name))
    missing = int(np.array([is_missing(text) for text in texts], dtype=bool)[codes].sum())
    one: dict[str, Any] = {"column": name, "values": cells.rows - missing, "missing": missing}
    values, others = _numbers(cells, name, numerals)
    role = _role(name, layout)
    ids = role in ("identity", "stay or record")  # ids are text, even if they consist of digits
    if not ids and not others and one["values"]:
        one |= {"low": float(np.nanmin(values)), "high": float(np.nanmax(values))}
    elif one["values"]:
        one["kinds"] = sum(not is_missing(text) for text in texts)
    return one | ({"is": role} if role else _signal(name) if "low" in one else {})


def _role(name: str, layout: Layout | None) -> str | None:
    """Return the role of a column that is not a signal; None for one that may be."""
    if layout is None:
        return None
    if name in (layout.id_column, layout.part_column):
        return "identity" if name == layout.id_column else "stay or record"
    if name in layout.timestamp_columns:
        return "time"
    return "attribute" if name in (layout.attributes or ()) else None


def _signal(name: str) -> dict[str, Any]:
    """Guess the vital sign from a column's name; empty if the name is not that of a vital sign."""
    from device_runtime.series.signals import SIGNALS, find_signal, unit_of_name

    code = int(name) if name.isdecimal() and name.isascii() else -1
    coded = next((one for one in SIGNALS.values() if code in (*one.item_ids, *one.fahrenheit_item_ids)), None)
    signal = coded or find_signal(name)
    if signal is None:
        return {}
    return {"signal": signal.name, "unit": unit_of_name(name) or signal.unit, "loinc": signal.loinc}


def _events(cells: Cells, name_column: str, value_column: str, numerals: Numerals) -> list[dict[str, Any]]:
    """Describe each kind of event in a table with one measurement per row, the most frequent first."""
    import pandas as pd

    values, _ = _numbers(cells, value_column, numerals)
    found = pd.Series(values).groupby(cells.texts(name_column)).agg(["size", "count", "min", "max"])
    rows = []
    for name, size, count, low, high in found.sort_values("count", ascending=False, kind="stable").itertuples():
        one = {"event": str(name), "values": int(count), "missing": int(size - count)}
        if count:
            one |= {"low": float(low), "high": float(high)}
        rows.append(one | _signal(str(name)))
    return rows


def _wfdb(headers: list[Path]) -> list[dict[str, Any]]:
    """List the signals of WFDB records with their units and the number of records each is in; samples are not read."""
    import wfdb

    from edge_tsfm.errors import DataError

    found: dict[str, list[str]] = {}
    for header in headers:
        try:
            record = wfdb.rdheader(str(header.with_suffix("")))
        except (OSError, ValueError, IndexError, KeyError, AttributeError) as error:
            raise DataError(f"{header} is not a WFDB header: {error}") from error
        for name, unit in zip(record.sig_name or [], record.units or [], strict=False):
            found.setdefault(str(name), []).append(str(unit))
    return [
        {"event": name, "records": len(units), "units": sorted(set(units)), **_signal(name)}
        for name, units in sorted(found.items())
    ]


def column_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the result of `list_columns` as text, one line for each column."""
    width = max((len(str(row.get("column", row.get("event")))) for row in rows), default=0)
    lines = []
    for row in rows:
        said = _amount(row)
        if "low" in row:
            said += f", {row['low']:g} to {row['high']:g}"
        elif "kinds" in row:
            said += f", {row['kinds']:,} different"
        if "signal" in row:
            said += f": by its name {row['signal']} [{row['unit']}, LOINC {row['loinc']}]"
        elif "is" in row:
            said += f": {row['is']}"
        lines.append(f"{row.get('column', row.get('event')):<{width}}  {said}")
    return lines


def _amount(row: dict[str, Any]) -> str:
    """Describe how many values one column, event or signal has."""
    if "records" in row:
        return f"in {row['records']:,} records, {' or '.join(row['units'])}"
    share = 100 * row["missing"] / max(1, row["values"] + row["missing"])
    missing = f" ({share:.0f} % missing)" if share >= 0.5 else ""
    return f"{row['values']:,} values{missing}"
