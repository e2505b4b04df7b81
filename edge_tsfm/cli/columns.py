"""The columns of a data file, for `inspect` without ``--target``: what is there, how much of it, and what it may be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from edge_tsfm.data.layouts import Layout


def list_columns(path: Path) -> dict[str, Any]:
    """Describe every column of a data file or folder; of a table of events, every kind of event.

    Raises `DataError` for what no reader understands.
    """
    from edge_tsfm.data.columns import find_layout
    from edge_tsfm.data.layouts import ID_COLUMNS
    from edge_tsfm.data.sources import open_source
    from edge_tsfm.errors import DataError

    headers = [path] if path.suffix == ".hea" else sorted(path.glob("*.hea")) if path.is_dir() else []
    if headers:
        return {"data": path.name, "layout": "WFDB", "records": len(headers), "signals": _wfdb(headers)}
    table = open_source(path, target=None, text_columns=ID_COLUMNS)
    try:
        layout = find_layout(table, id_column=None, timestamp_column=None, step=None)
        note = layout.note
    except DataError as error:
        layout, note = None, f"{error}; {error.hint}" if error.hint else str(error)
    facts: dict[str, Any] = {"data": path.name, "rows": len(table.frame)}
    if layout is not None:
        facts["layout"] = layout.name
        if layout.id_column is not None:
            facts["items"] = int(table.frame[layout.id_column].nunique())
    if note:
        facts["note"] = note
    if layout is not None and layout.name_column is not None and layout.value_column is not None:
        facts["signals"] = _events(table.frame, layout)
    else:
        facts["columns"] = [_column(table.frame[name], layout) for name in table.frame.columns]
    return facts


def _column(values: pd.Series[Any], layout: Layout | None) -> dict[str, Any]:
    """Count and bound one column, and guess what it is."""
    import pandas as pd

    name = str(values.name)
    one: dict[str, Any] = {"column": name, "values": int(values.notna().sum()), "missing": int(values.isna().sum())}
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values) and one["values"]:
        one |= {"low": float(values.min()), "high": float(values.max())}
    elif one["values"]:
        one["kinds"] = int(values.nunique())
    role = _role(name, layout)
    return one | ({"is": role} if role else _signal(name) if "low" in one else {})


def _role(name: str, layout: Layout | None) -> str | None:
    """Say what a column is that is no signal."""
    if layout is None:
        return None
    if name in (layout.id_column, layout.part_column):
        return "identity" if name == layout.id_column else "stay or record"
    if name == layout.timestamp_column:
        return "time"
    return "attribute" if name in (layout.attributes or ()) else None


def _signal(name: str) -> dict[str, Any]:
    """Guess the vital sign that a column's name speaks of; empty for another domain's."""
    from edge_tsfm.data.channels import CHANNELS, find_channel, unit_of_name

    code = int(name) if name.isdecimal() and name.isascii() else -1
    coded = next((one for one in CHANNELS.values() if code in (*one.item_ids, *one.fahrenheit_item_ids)), None)
    channel = coded or find_channel(name)
    if channel is None:
        return {}
    return {"signal": channel.name, "unit": unit_of_name(name) or channel.unit, "loinc": channel.loinc}


def _events(frame: pd.DataFrame, layout: Layout) -> list[dict[str, Any]]:
    """Describe each kind of event of a table whose rows are single measurements, the most frequent first."""
    import pandas as pd

    values = pd.to_numeric(frame[layout.value_column], errors="coerce")
    found = values.groupby(frame[layout.name_column].astype(str)).agg(["size", "count", "min", "max"])
    rows = []
    for name, size, count, low, high in found.sort_values("count", ascending=False).itertuples():
        one = {"event": str(name), "values": int(count), "missing": int(size - count)}
        if count:
            one |= {"low": float(low), "high": float(high)}
        rows.append(one | _signal(str(name)))
    return rows


def _wfdb(headers: list[Path]) -> list[dict[str, Any]]:
    """Name the signals of WFDB records, in how many records each is, and its unit; samples are not read."""
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
    """Lay out what `list_columns` found, a column a line."""
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
    """Say how much there is of one column, event or signal."""
    if "records" in row:
        return f"in {row['records']:,} records, {' or '.join(row['units'])}"
    share = 100 * row["missing"] / max(1, row["values"] + row["missing"])
    missing = f" ({share:.0f} % missing)" if share >= 0.5 else ""
    return f"{row['values']:,} values{missing}"
