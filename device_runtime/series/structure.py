"""Finding the id column without a telling name: from times within its values that repeat, go back or jump."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct
from device_runtime.series.grid import conflicts
from device_runtime.series.id_names import SITES, ends_as_an_id
from device_runtime.series.signals import find_event, find_signal
from device_runtime.series.words import CALENDAR, DATES, TIMESTAMPS, fold

# How many usual steps lie at the least between two patients whose times do not overlap.
BREAK_STEPS = 3
_FRACTION = re.compile(r"[+-]?\d*[.,]\d*[1-9]\d*", re.ASCII)


def identity_by_structure(
    cells: Cells, time_us: NDArray[np.int64], value: NDArray[np.float32], used: set[str | None]
) -> tuple[str | None, list[tuple[str, int]]]:
    """Return the column that must be the id, if there is exactly one, and every candidate with its distinct cells.

    A candidate divides the rows so that no time comes twice within one of its cells; one written as ids are
    (``horse_id``) may have repeated rows, if their ``value`` ``[R]`` agrees. It must be the id where it is the only one
    so written, or the only one at all, its cells runs of rows in which time rises, or falls.
    """
    candidates: list[tuple[str, int]] = []
    certain: list[str] = []
    for name, codes, count in _dividing(cells, used):
        repeated = len(np.unique(np.stack([codes, time_us]), axis=1).T) < cells.rows
        if repeated and not (ends_as_an_id(name) and not conflicts(codes, time_us, value=value)[0]):
            continue
        candidates.append((name, count))
        change = codes[1:] != codes[:-1]
        within = np.sign(np.diff(time_us))[~change]
        if int(change.sum()) == count - 1 and ((within > 0).all() or (within < 0).all()):
            certain.append(name)
    named = [name for name, _ in candidates if ends_as_an_id(name)]
    if len(named) == 1:
        return named[0], candidates
    return (certain[0] if len(candidates) == 1 and certain else None), candidates


def identity_of_runs(
    cells: Cells, time_us: NDArray[np.int64], used: set[str | None]
) -> tuple[str | None, tuple[str, ...]]:
    """Return the column that must be the id of rows of which no two have one time, and what to say of others.

    It is the only one written as ids are whose cells are runs in time. Raises `InputError` where such a column is
    no run, and where time jumps or goes back at the changes of another: it cannot be told whose they are.
    """
    order = np.argsort(time_us, kind="stable")
    steps = np.diff(time_us[order])
    back = np.sign(np.diff(time_us))
    turns = bool((back > 0).any() and (back < 0).any())
    runs: list[tuple[str, int]] = []
    notes: list[str] = []
    for name, codes, count in _dividing(cells, used):
        if fold(name) in (*TIMESTAMPS, *DATES, *CALENDAR):
            continue
        change = np.diff(codes[order]) != 0
        run = int(change.sum()) == count - 1
        in_file = codes[1:] != codes[:-1]
        if turns and int(in_file.sum()) == count - 1 and len(set(back[~in_file].tolist())) == 1 and not run:
            raise _whose(cells, name, count, "times go back where it changes")
        if ends_as_an_id(name):
            if not run:
                raise _whose(cells, name, count, "its cells come by turns")
            runs.append((name, count))
        elif run and count > 1:
            usual = float(np.median(steps[~change])) if (~change).any() else 0.0
            if (steps[change] > BREAK_STEPS * usual).all():
                raise _whose(cells, name, count, "time breaks off at every change of it")
            notes.append(f"no id column is known; column {name} ({count} distinct) is taken for none")
    if len(runs) > 1:
        name, count = runs[0]
        raise _whose(cells, name, count, f"{runs[1][0]} could be the id too")
    return (runs[0][0] if runs else None), tuple(notes)


def _whose(cells: Cells, name: str, count: int, why: str) -> InputError:
    return InputError(
        f"{cells.source}: whose rows are these? No id column is known, and column {name} ({count} distinct) may be "
        f"one: {why}",
        hint=f"say --id-column {name} if that is the patient, or leave the column out of the file",
    )


def _dividing(cells: Cells, used: set[str | None]) -> Iterator[tuple[str, NDArray[np.int64], int]]:
    """Yield the columns that could divide the rows, which cell each row has ``[R]``, and how many there are."""
    for name in cells.names:
        if name in used or find_signal(name) or _fractions(cells.some(name).tolist()):
            continue  # without a look at all of it
        column = cells.columns[name]
        if column.dtype.kind == "M" or (column.dtype.kind == "f" and (column % 1 > 0).any()):
            continue
        codes, values = distinct(column)
        if not 1 < len(values) <= cells.rows // 2 or _fractions(values) or any(find_event(str(v)) for v in values[:50]):
            continue
        yield name, codes, len(values)


def _fractions(values: list[object]) -> bool:
    """Return whether cells are measurements: numbers with fractions, not ids written as floats (``101.0``)."""
    return any(isinstance(value, str) and _FRACTION.fullmatch(value.strip()) for value in values)


def refuse_restarted(cells: Cells, id_column: str | None, ids: NDArray[np.object_]) -> None:
    """Refuse a table in which most ids occur at several sites: each site counts from 1.

    A patient who changes hospital keeps the id, which is why some may. ``ids`` is ``[R]``.
    """
    if id_column is None:
        return
    code, names = distinct(ids)
    for name in cells.names:
        if name == id_column or fold(name) not in SITES:
            continue
        site, sites = distinct(cells.texts(name))
        both = np.unique(code * len(sites) + site)
        several = np.bincount(both // len(sites), minlength=len(names)) > 1
        if several.sum() * 2 > len(names):
            one = int(np.argmax(several))
            raise InputError(
                f"{cells.source}: {int(several.sum())} of {len(names)} ids occur at several of column {name}, such as "
                f"{id_column} {names[one]}: one patient, or one of each {name}?",
                hint=f"write {name} and {id_column} in one column, or read one at a time: --where {name}={sites[0]}",
            )
