"""From a table to series of one signal on a regular clock: every rule of ``SERIES.md``, in its order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct
from device_runtime.series.clean import Cleaned, clean
from device_runtime.series.clock import choose_interval, gap_limit
from device_runtime.series.columns import find_layout
from device_runtime.series.flags import flagged
from device_runtime.series.grid import conflicts, lay_on_grid, put_in_order
from device_runtime.series.identity import (
    MAX_CONFLICTS,
    Parts,
    refuse_conflicts,
    take_ids,
    take_parts,
)
from device_runtime.series.layouts import Layout
from device_runtime.series.numerals import Numerals, decide
from device_runtime.series.options import OptionError, ReadOptions
from device_runtime.series.reading import Reading
from device_runtime.series.rows import rows_of, without_empty_rows
from device_runtime.series.structure import identity_by_structure, identity_of_runs, refuse_restarted
from device_runtime.series.target import Target, find_target, take_values
from device_runtime.series.times import STEP_US, Times, read_times, require_dates_as_text
from device_runtime.series.units import convertible

# Ids [R], times in microseconds [R] and which rows of the table they are [R] → ids [R], and what to say of them.
Refine = Callable[[NDArray[np.object_], NDArray[np.int64], NDArray[np.int64]], tuple[NDArray[np.object_], str | None]]
# Above this share of impossible values the column is not what it is said to be, most often another unit.
MAX_IMPLAUSIBLE_SHARE = 0.5


def read(
    cells: Cells,
    target: str | None,
    options: ReadOptions,
    *,
    known: Layout | None = None,
    otherwise: str = "series",
    refine: Refine | None = None,
) -> Reading:
    """Read one signal of a table.

    ``known`` is a layout that the file's kind gives, ``otherwise`` an item without id, ``refine`` tells apart what one
    id means in several files. Raises `InputError` for a table that cannot be read as asked, `OptionError` for
    impossible options.
    """
    table = cells = replace(cells, dates=options.dates())
    cells, full = without_empty_rows(cells, options.timestamp_column)
    layout = find_layout(cells, options, known)
    wanted = find_target(cells, layout, target, options.signal)
    cells, kept, left_out = rows_of(cells, layout, wanted, options)
    kept = full[kept]
    used = (layout.id_column, layout.part_column, *layout.timestamp_columns, layout.name_column, wanted.column)
    wrong, flags, flag_notes = flagged(cells, wanted.column, used)
    numerals = decide(cells, [name for name in used[:2] if name] + [layout.name_column or ""], decimal=options.decimal)
    times = _times(cells, layout, numerals)
    value, converted = take_values(cells, layout, wanted, options, numerals)
    in_error = int((wrong & ~np.isnan(value)).sum())
    value[wrong] = np.nan
    bounds = options.plausible or (None if wanted.signal is None else (wanted.signal.low, wanted.signal.high))
    cleaned = clean(value, bounds)
    _refuse_wrong_unit(cells, wanted, cleaned, bounds)
    layout, ids = _identify(cells, replace(layout, flag_columns=flags), times, cleaned.value, options, otherwise)
    ids, id_note = (ids, None) if refine is None else refine(ids, times.time_us, kept)
    parts = take_parts(cells, ids, layout.part_column)
    if options.duplicates in (None, "error"):
        _refuse_conflicts(cells, layout, wanted, times, parts, cleaned.value, options)
    rows = put_in_order(parts.part, times.time_us, cleaned.value, duplicates=options.duplicates or "median")
    asked = options.interval_us() or layout.interval_us
    if not layout.timestamp_columns:
        every_us = asked or STEP_US
    else:
        every_us = choose_interval(cells.source, parts.item_ids, rows, times.clock, asked)
    if times.clock == "count" and asked is None and options.max_gap is not None:
        raise OptionError(
            f"max_gap {options.max_gap}: {cells.source} counts steps, and nothing says how long one is",
            hint="say --interval, such as 1h",
        )
    return Reading(
        layout=layout,
        target=wanted,
        clock=times.clock,
        every_us=every_us,
        parts=parts,
        times=times,
        kept=kept,
        cleaned=cleaned,
        converted=converted,
        in_error=in_error,
        left_out=left_out,
        rows=rows,
        grid=lay_on_grid(rows, interval_us=every_us, max_gap=gap_limit(options.max_gap_us(), every_us)),
        bounds=bounds,
        numerals=numerals,
        notes=tuple(
            note
            for note in (*table.notes, *layout.notes, numerals.note, *times.notes, wanted.note, *flag_notes, id_note)
            if note
        ),
    )


def _times(cells: Cells, layout: Layout, numerals: Numerals) -> Times:
    """Read the times, or count rows within each item where the table has none."""
    if layout.timestamp_columns:
        return read_times(cells, layout.timestamp_columns, step_us=layout.step_us, numerals=numerals)
    require_dates_as_text(cells, ())
    ids = np.zeros(cells.rows, dtype=np.int64)
    if layout.id_column is not None:
        ids = distinct(cells.texts(layout.id_column))[0]
    order = np.argsort(ids, kind="stable")
    first = np.concatenate([[0], np.flatnonzero(np.diff(ids[order])) + 1])
    lengths = np.diff(np.append(first, cells.rows))
    place = np.empty(cells.rows, dtype=np.int64)
    place[order] = np.arange(cells.rows) - np.repeat(first, lengths)
    return Times(
        time_us=place * (layout.step_us or STEP_US),
        clock="count" if layout.step_us is None else "step",
        notes=("no timestamp column: each row is the next step of its item",),
    )


def _refuse_wrong_unit(cells: Cells, wanted: Target, cleaned: Cleaned, bounds: tuple[float, float] | None) -> None:
    positive = len(cleaned.value) - cleaned.missing - cleaned.non_positive
    if bounds is None or cleaned.implausible <= MAX_IMPLAUSIBLE_SHARE * positive:
        return
    unit = "" if wanted.signal is None else f" {wanted.signal.unit}"
    others = () if wanted.signal is None else convertible(wanted.signal.unit)[1:]
    other = f" (--unit {' or '.join(others)})" if others else ""
    raise InputError(
        f"{cells.source}: {cleaned.implausible} of {positive} values of {wanted.column} lie outside "
        f"{bounds[0]:g} to {bounds[1]:g}{unit}",
        hint=f"is it another unit{other} or another signal (--target)?",
    )


def _identify(
    cells: Cells, layout: Layout, times: Times, value: NDArray[np.float32], options: ReadOptions, otherwise: str
) -> tuple[Layout, NDArray[np.object_]]:
    """Find the item of each row; without a telling column name, from the table's structure."""
    if layout.id_column is None and layout.timestamp_columns and cells.rows > 1 and options.duplicates is None:
        used = {*layout.timestamp_columns, layout.name_column, layout.value_column, layout.unit_column}
        order = np.sort(times.time_us)
        if not (order[1:] == order[:-1]).any():
            found, notes = identity_of_runs(cells, times.time_us, used | set(layout.flag_columns))
            why = "no two of its rows have one time"
        else:
            found, notes = identity_by_structure(cells, times.time_us, value, used)[0], ()
            why = "no time comes twice within one of it"
            if conflicts(times.time_us, value=value)[0] <= MAX_CONFLICTS * max(int((~np.isnan(value)).sum()), 1):
                found = None
        if found is not None:
            notes = (f"id is {found}, by structure: {why}",)
        layout = replace(layout, id_column=found, notes=(*layout.notes, *notes))
    ids = take_ids(cells, layout.id_column, otherwise)
    if options.duplicates in (None, "error"):
        refuse_restarted(cells, layout.id_column, ids)
    return layout, ids


def _refuse_conflicts(
    cells: Cells,
    layout: Layout,
    wanted: Target,
    times: Times,
    parts: Parts,
    value: NDArray[np.float32],
    options: ReadOptions,
) -> None:
    """Refuse rows of one time that disagree, beyond a small share; two item ids of one signal may disagree."""
    kind = np.zeros(cells.rows, dtype=np.int64)
    if layout.name_column is not None:
        kind = distinct(cells.texts(layout.name_column))[0]
    count, first = conflicts(parts.part, times.time_us, kind, value=value)
    observed = int((~np.isnan(value)).sum())
    if count > (0 if options.duplicates == "error" else MAX_CONFLICTS * observed):
        used = {*layout.timestamp_columns, layout.name_column, layout.unit_column, layout.id_column, wanted.column}
        keys = times.time_us * len(parts.item_ids) + parts.part if count else times.time_us
        candidates = identity_by_structure(cells, keys, value, used)[1]
        raise refuse_conflicts(cells, layout.id_column, count, observed, candidates, first)
