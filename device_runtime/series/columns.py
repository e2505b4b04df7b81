"""The role of each column of a table: from options, from a known public layout, or from the columns' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct, listed, named_column
from device_runtime.series.id_names import TIERS, id_tier
from device_runtime.series.joined import holds_stamps, is_date_alone, time_columns
from device_runtime.series.layouts import Layout, known_layout
from device_runtime.series.options import ReadOptions
from device_runtime.series.variables import holds_units, variable_column
from device_runtime.series.words import (
    CLOCKS,
    TIMESTAMPS,
    UNITS,
    VALUES,
    first_of,
    fold,
    step_of,
)


def find_layout(cells: Cells, options: ReadOptions, known: Layout | None = None) -> Layout:
    """Return which column is what. Raises `InputError` when a named column is absent or no timestamp is found."""
    said = {
        option: None if name is None else named_column(cells.names, name, option=option, source=cells.source)
        for option, name in options.named().items()
    }
    layout = known or known_layout(cells.names)
    if layout is None or said["--variable-column"] or said["--value-column"]:
        layout = _guess(cells, layout, said)
    time = said["--timestamp-column"]
    if time is None and not layout.timestamp_columns:
        time = _time_column(cells, [name for name in cells.names if name != layout.value_column])
        if time is None and {"year", "month", "day"} <= {fold(name) for name in cells.names}:
            time = next(name for name in cells.names if fold(name) == "year")
    if time is not None:
        layout = replace(layout, timestamp_columns=time_columns(cells, time), step_us=step_of(time), interval_us=None)
    if not layout.timestamp_columns and not options.rows_are_steps:
        raise InputError(
            f"{cells.source} has no timestamp column (looked for {', '.join(TIMESTAMPS[:5])} ...)",
            hint=f"name it with --timestamp-column; its columns: {listed(cells.names)}",
        )
    if layout.step_us is None:
        layout = replace(layout, step_us=options.interval_us())
    if said["--unit-column"]:
        layout = replace(layout, unit_column=said["--unit-column"])
    if said["--id-column"]:
        part = layout.part_column if layout.part_column != said["--id-column"] else None
        return replace(layout, id_column=said["--id-column"], part_column=part)
    return layout if layout.id_column is not None else _with_id(cells, layout)


def _time_column(cells: Cells, names: Sequence[str]) -> str | None:
    """Return the column of the times: by name, but a date alone only where no other one has the time of day too."""
    first = first_of(TIMESTAMPS, names)
    if first is None or not is_date_alone(cells, first):
        return first
    others = [name for name in names if fold(name) in TIMESTAMPS and holds_stamps(cells, name)]
    unread = next((name for name in names if name != first and fold(name) in CLOCKS), None)
    if not others and unread is not None:
        raise InputError(
            f"{cells.source}: column {first!r} holds dates alone, and column {unread!r} beside it is no time of day "
            "in every row (such as 14:05, or an hour from 0 to 23)",
            hint=f"correct {unread}, or give --timestamp-column {first} if a row is of a whole day",
        )
    return others[0] if others else first


def id_columns(cells: Cells, used: Sequence[str | None] = ()) -> list[str]:
    """Return the columns whose name says that they are an id, the patient before the stay before the record.

    A column that is different in every row counts rows, and fractions are measurements.
    """
    ranked = [(TIERS.index(tier), name) for name in cells.names if (tier := id_tier(name)) and name not in used]
    return [name for _, name in sorted(ranked, key=lambda one: one[0]) if _may_be_id(cells, name)]


def _may_be_id(cells: Cells, name: str) -> bool:
    column = cells.columns[name]
    if column.dtype.kind == "M":
        return False
    count = len(distinct(column)[1])
    if count == cells.rows and cells.rows > 2:
        return False
    return column.dtype.kind != "f" or not (column % 1 > 0).any()


def _with_id(cells: Cells, layout: Layout) -> Layout:
    """Add the id, and the stay within it, to a layout that has none."""
    used = (*layout.timestamp_columns, layout.name_column, layout.value_column, layout.unit_column)
    found = id_columns(cells, used)
    if not found:
        return layout
    tiers = {name: id_tier(name) for name in found}
    part = layout.part_column
    if part is None and tiers[found[0]] in ("item", "patient", "generic"):
        stays = [name for name in found[1:] if tiers[name] == "stay"]
        part = next((name for name in stays if len(distinct(cells.columns[name])[1]) * 2 <= cells.rows), None)
    if layout.name_column is None and fold(found[0]) == "item" and len(found) > 1:
        found = [*found[1:], found[0]]  # what was measured, more likely than whose it is
    notes = layout.notes
    if len(found) > 1:
        notes = (*notes, f"id is {found[0]}, of {', '.join(found)}: another is taken with --id-column")
    return replace(layout, id_column=found[0], part_column=part, notes=notes)


def _guess(cells: Cells, known: Layout | None, said: dict[str, str | None]) -> Layout:
    """Recognise a layout by the columns' names, and by what is in the column of variables."""
    variable = said["--variable-column"] or (known.name_column if known else None) or variable_column(cells)
    value = said["--value-column"] or (known.value_column if known else None)
    if value is None and variable:
        value = first_of(VALUES, [name for name in cells.names if name != variable])
    if variable and value is None:
        raise InputError(
            f"{cells.source}: column {variable!r} names variables, but which column holds their values?",
            hint=f"name it with --value-column; its columns: {listed(cells.names)}",
        )
    unit = first_of(UNITS, cells.names)
    if unit and not variable and not holds_units(cells, unit):
        unit = None
    if known is not None:
        return replace(known, name_column=variable, value_column=value, unit_column=known.unit_column or unit)
    return Layout(
        name="long events" if variable else "table",
        id_column=None,
        timestamp_columns=(),
        name_column=variable,
        value_column=value,
        unit_column=unit,
        attributes=() if variable else None,
    )
