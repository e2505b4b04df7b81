"""Which column of a table is the id, the timestamp and the target: what the user said, else what is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from device_runtime.series.signals import find_event, find_signal, rank_of_name
from edge_tsfm.data.channels import Channel, find_channel
from edge_tsfm.data.layouts import (
    ID_COLUMNS,
    STEPS,
    TIMESTAMP_COLUMNS,
    VALUE_COLUMNS,
    Layout,
    first_present,
    known_layout,
)
from edge_tsfm.data.tables import Table
from edge_tsfm.errors import DataError

NAME_COLUMNS = ("channel", "vital", "vital_name", "variable", "parameter", "label")


@dataclass(frozen=True, kw_only=True)
class Target:
    """The column that holds the values, and the vital sign they are (None: another domain's)."""

    column: str
    name: str
    channel: Channel | None
    note: str | None = None


def find_layout(
    table: Table, *, id_column: str | None, timestamp_column: str | None, step: pd.Timedelta | None
) -> Layout:
    """Say which column is what; ``step`` is how long 1 is in plain-number timestamps that do not say so.

    Raises `DataError` when a named column is absent or no timestamp is found.
    """
    columns = list(table.frame.columns)
    for named in (id_column, timestamp_column):
        if named is not None and named not in columns:
            raise DataError(f"{table.source} has no column {named!r}", hint=f"its columns: {listed(columns)}")
    layout = table.layout or known_layout(columns)
    if layout is None:
        layout = _guess(table, columns, id_column, timestamp_column)
    changed = replace(
        layout,
        id_column=id_column or layout.id_column,
        timestamp_column=timestamp_column or layout.timestamp_column,
        part_column=layout.part_column if layout.part_column != id_column else None,
    )
    if changed.timestamp_column != layout.timestamp_column:
        changed = replace(changed, step=step_of(changed.timestamp_column), interval=None)
    return changed if changed.step is not None else replace(changed, step=step)


def _guess(table: Table, columns: list[str], id_column: str | None, timestamp_column: str | None) -> Layout:
    time = timestamp_column or first_present(TIMESTAMP_COLUMNS, columns)
    if time is None:
        raise DataError(
            f"{table.source} has no timestamp column (looked for {', '.join(TIMESTAMP_COLUMNS[:5])} ...)",
            hint=f"name it with --timestamp-column; its columns: {listed(columns)}",
        )
    name = first_present(NAME_COLUMNS, columns)
    value = first_present(VALUE_COLUMNS, columns) if name else None
    return Layout(
        name="long events" if value else "table",
        id_column=id_column or first_present(ID_COLUMNS, columns),
        timestamp_column=time,
        name_column=name if value else None,
        value_column=value,
        unit_column=first_present(("unit", "units", "valueuom"), columns) if value else None,
        step=step_of(time),
        attributes=() if value else None,
    )


def step_of(column: str) -> pd.Timedelta | None:
    """Return how long 1 is in a timestamp column of plain numbers, where its name says so."""
    text = STEPS.get(column.strip().casefold())
    return None if text is None else pd.Timedelta(text)


def find_target(table: Table, layout: Layout, target: str | None) -> Target:
    """Say which column is the target: by name, by another name of the vital sign, or the only value column.

    ``--target MAP`` on a table whose value column is called ``target``, ``y`` or ``value`` says what that
    column is. Raises `DataError` when there is none, or several and no name.
    """
    columns = list(table.frame.columns)
    if layout.name_column is not None:
        return _find_event(table, layout.name_column, target)
    generic = first_present(VALUE_COLUMNS, columns)
    if target is None:
        if generic is None:
            raise DataError(
                f"{table.source}: which column is the target?",
                hint=f"name it with --target; {listed(columns)}",
            )
        return Target(column=generic, name=generic, channel=None)
    if target in columns:
        return _target(target, target)
    channel = find_channel(target)
    if channel is not None:
        # Preferred first: the vital sign's own name, then an arterial line before a cuff.
        same = sorted((c for c in columns if find_signal(c) is channel), key=rank_of_name)
        if same:
            others = f"; also present, not used: {', '.join(same[1:])}" if same[1:] else ""
            note = f"{target} is column {same[0]}{others}" if same[0] != target or others else None
            return _target(same[0], channel.name, note)
        if generic is not None:
            return Target(
                column=generic,
                name=channel.name,
                channel=channel,
                note=f"column {generic} taken as {channel.name}",
            )
    raise DataError(f"{table.source} has no column {target!r}", hint=f"its columns: {listed(columns)}")


def _target(column: str, name: str, note: str | None = None) -> Target:
    channel = find_channel(name)
    return Target(column=column, name=name if channel is None else channel.name, channel=channel, note=note)


def _find_event(table: Table, name_column: str, target: str | None) -> Target:
    names = list(table.frame[name_column].dropna().unique())
    if target is None:
        raise DataError(f"{table.source}: which channel is the target?", hint=f"name it with --target; {listed(names)}")
    channel = find_channel(target)
    wanted = Target(column=name_column, name=target if channel is None else channel.name, channel=channel)
    if not any(is_event_of(name, wanted) for name in names):
        raise DataError(f"{table.source} has no rows with {name_column} {target!r}", hint=f"it has: {listed(names)}")
    return wanted


def is_event_of(name: object, target: Target) -> bool:
    """Say whether an event called ``name``, in any spelling or by its item id, is of the target."""
    if target.channel is None:
        return str(name) == target.name
    return find_event(str(name)) is target.channel


def listed(names: Sequence[object]) -> str:
    """Return the first few names as text for a hint."""
    shown = [str(name) for name in list(names)[:16]]
    return ", ".join(shown) + (" ..." if len(names) > 16 else "")
