"""Which column, or which rows of an event table, are the target, and in which unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.nearest import did_you_mean
from device_runtime.series.cells import Cells, distinct, is_missing, listed, named_column
from device_runtime.series.layouts import Layout
from device_runtime.series.numerals import Numerals, read_numbers
from device_runtime.series.options import OptionError, ReadOptions
from device_runtime.series.signals import Signal, find_event, find_signal, rank_of_name, strange_unit, unit_of_name
from device_runtime.series.units import CONVERSIONS, convertible, find_unit
from device_runtime.series.variables import refuse_other_names
from device_runtime.series.words import VALUES, first_of, fold


@dataclass(frozen=True, kw_only=True)
class Target:
    """The column that holds the values, and the vital sign they are (None: another domain's)."""

    column: str
    name: str
    signal: Signal | None
    events: tuple[str, ...] = ()  # cells of the layout's name column that are the target
    note: str | None = None


def find_target(cells: Cells, layout: Layout, target: str | None, own: Signal | None = None) -> Target:
    """Return which column is the target: by name, by another name of the vital sign, or the only value column.

    ``--target MAP`` on a table whose value column is called ``target``, ``y`` or ``value`` says what that column is.
    ``own`` is a signal that the table of signals has not, known by its name. Raises `InputError` when there is none, or
    several and no name.
    """
    if layout.name_column is not None:
        return _find_event(cells, layout, layout.name_column, target, own)
    names = [name for name in cells.names if name not in (layout.id_column, *layout.timestamp_columns)]
    generic = layout.value_column or first_of(VALUES, names)
    if target is None:
        if generic is None:
            raise InputError(
                f"{cells.source}: which column is the target?", hint=f"name it with --target; {listed(cells.names)}"
            )
        if layout.value_column is None:
            refuse_other_names(cells, layout.id_column, generic)
        return _target(generic, generic, own) if own is not None else Target(column=generic, name=generic, signal=None)
    signal = _signal(target, own)
    if generic is not None and layout.value_column is None:
        _refuse_if_used(cells, layout, generic, target)
    folded = [name for name in cells.names if name.strip().casefold() == target.strip().casefold()]
    if folded:
        return _target(named_column(cells.names, target, option="--target", source=cells.source), target, own)
    if signal is not None:
        # Preferred first: the vital sign's own name, then an arterial line before a cuff.
        same = sorted((name for name in names if find_signal(name) is signal), key=rank_of_name)
        if same:
            others = f"; also present, not used: {', '.join(same[1:])}" if same[1:] else ""
            return _target(same[0], signal.name, own, f"{target} is column {same[0]}{others}")
        if generic is not None:
            return Target(
                column=generic, name=signal.name, signal=signal, note=f"column {generic} taken as {signal.name}"
            )
    raise InputError(
        f"{cells.source} has no column {target!r}",
        hint=f"{_meant(target, names)}name the values with --target; its columns: {listed(cells.names)}",
    )


def _meant(target: str, names: Sequence[str]) -> str:
    """Begin a hint with the name that may have been meant: one of ``names``, or of a vital sign that is among them.

    Who names another vital sign meant that one.
    """
    if find_event(target) is not None:
        return ""
    signals = dict.fromkeys(signal.name for name in names if (signal := find_event(name)))
    return did_you_mean(target, [*names, *signals])


def _refuse_if_used(cells: Cells, layout: Layout, generic: str, target: str) -> None:
    """Refuse values whose names are unknown, if the target has no column of its own."""
    own_column = any(fold(name) == fold(target) != fold(generic) for name in cells.names)
    signal = find_signal(target)
    if not own_column and not (signal and any(find_signal(name) is signal for name in cells.names)):
        refuse_other_names(cells, layout.id_column, generic)


def _signal(name: str, own: Signal | None) -> Signal | None:
    """Return the signal that a name means: one of the table's, else ``own`` if it has that name."""
    if own is not None and name.strip().casefold() == own.name.casefold():
        return find_signal(name) or own
    return find_signal(name)


def _target(column: str, name: str, own: Signal | None, note: str | None = None) -> Target:
    signal = _signal(name, own)
    return Target(column=column, name=column if signal is None else signal.name, signal=signal, note=note)


def _find_event(cells: Cells, layout: Layout, name_column: str, target: str | None, own: Signal | None) -> Target:
    events = [text for text in distinct(cells.texts(name_column))[1] if not is_missing(text)]
    if target is None:
        raise InputError(
            f"{cells.source}: which signal is the target?", hint=f"name it with --target; {listed(events)}"
        )
    signal = find_event(target)
    mine = tuple(event for event in events if event_is(event, target, signal))
    if not mine:
        raise InputError(
            f"{cells.source} has no rows with {name_column} {target!r}",
            hint=f"{_meant(target, events)}it has: {listed(events)}",
        )
    column = layout.value_column
    assert column is not None
    signal = signal or _signal(target, own)
    return Target(column=column, name=mine[0] if signal is None else signal.name, signal=signal, events=mine)


def event_is(event: str, target: str, signal: Signal | None) -> bool:
    """Return whether an event's name is the target's, in any spelling or by its item id."""
    if signal is not None:
        return find_event(event) is signal
    return event.strip().casefold() == target.strip().casefold()


def take_values(
    cells: Cells, layout: Layout, target: Target, options: ReadOptions, numerals: Numerals
) -> tuple[NDArray[np.float32], int]:
    """Return the target's values ``[R]`` in its signal's unit, and how many were converted.

    Raises `InputError` for a unit that cannot be, naming the row.
    """
    # Through float32 first: a CSV's 36.6 and a Parquet float32 of it must come out the same.
    with np.errstate(over="ignore"):
        value = read_numbers(cells, target.column, numerals).astype(np.float32).astype(np.float64)
    signal = target.signal
    if signal is None or not signal.unit:  # an adapter's own signal may have no stated unit
        if options.unit is not None:
            raise OptionError(
                f"--unit {options.unit}: {target.name} is not a vital sign of the table of signals",
                hint="leave --unit out, or say which vital sign it is with --target",
            )
        return value.astype(np.float32), 0
    codes, units = _row_units(cells, layout, target, signal, options)
    converted = 0
    for place, unit in enumerate(units):
        these = codes == place
        if unit == signal.unit or not these.any():
            continue
        if (unit, signal.unit) not in CONVERSIONS:
            raise InputError(
                f"{signal.name} in {unit!r}: wanted {signal.unit} ({cells.where(int(np.argmax(these)))})",
                hint=f"convert it, or say its unit with --unit ({' or '.join(convertible(signal.unit))})",
            )
        scale, offset = CONVERSIONS[unit, signal.unit]
        value[these] = value[these] * scale + offset
        converted += int((these & ~np.isnan(value)).sum())
    return value.astype(np.float32), converted


def _row_units(
    cells: Cells, layout: Layout, target: Target, signal: Signal, options: ReadOptions
) -> tuple[NDArray[np.int64], list[str]]:
    """Return which unit each row is in ``[R]``, and those: as said by a person, the row, its item, the column."""
    if options.unit is not None:
        unit = find_unit(options.unit) or options.unit
        if unit not in convertible(signal.unit):
            raise OptionError(f"--unit {options.unit}: {signal.name} is in {' or '.join(convertible(signal.unit))}")
        return np.zeros(cells.rows, dtype=np.int64), [unit]
    for name in target.events or (target.column,):
        if (strange := strange_unit(name)) is not None:
            raise InputError(
                f"{cells.source}: {name!r}: {strange!r} is no unit known here, {signal.name} is in {signal.unit}",
                hint=f"convert it, or say its unit with --unit ({' or '.join(convertible(signal.unit))})",
            )
    units = [unit_of_name(target.column) or signal.unit]
    codes = np.zeros(cells.rows, dtype=np.int64)
    for column, unit_of in ((layout.name_column, unit_of_name), (layout.unit_column, _stated)):
        if column is None:
            continue
        places, texts = distinct(cells.texts(column))
        stated = [unit_of(text) for text in texts]
        table = np.array([-1 if unit is None else len(units) + k for k, unit in enumerate(stated)])
        units += [unit or "" for unit in stated]
        codes = np.where(table[places] < 0, codes, table[places])
    return codes, units


def _stated(text: str) -> str | None:
    """Return the unit of a unit column's cell: the table's name, or the cell itself; None where it is empty."""
    return None if is_missing(text) else find_unit(text) or text
