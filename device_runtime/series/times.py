"""The times of a table: which columns hold them, what their numbers mean, and all of it in microseconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct
from device_runtime.series.epochs import epoch_times
from device_runtime.series.numerals import Numerals, read_numbers
from device_runtime.series.stamps import (
    DAY_US,
    days_from_civil,
    is_ambiguous_day,
    is_day,
    parse_stamp,
    parse_stamps,
    parse_time_of_day,
)
from device_runtime.series.words import CALENDAR, CLOCKS, DATES, fold

# "timestamp": times; "step": plain numbers of known length; "count": plain numbers of unknown length.
Clock = Literal["timestamp", "step", "count"]
STEP_US = 1_000_000  # what one step of unknown length counts as
MAX_INT = 2**63 - 1
MAX_US = 2.0**62  # microseconds from step 0; int64 holds 2^63
ISO = "write ISO 8601, such as 2026-03-01 12:00:00 or 2026-03-01T12:00:00Z"


@dataclass(frozen=True, kw_only=True, eq=False)
class Times:
    """When each row was measured, and what was decided to know it."""

    time_us: NDArray[np.int64]  # [R], since 1970 (UTC), or since step 0
    clock: Clock
    notes: tuple[str, ...] = ()


def read_times(cells: Cells, names: Sequence[str], *, step_us: int | None, numerals: Numerals) -> Times:
    """Return microseconds ``[R]`` from the column ``names[0]``, or from those that make up the time together.

    ``step_us`` is how long 1 is in a column of plain step numbers. Raises `InputError` for an empty or unreadable
    field, or when some stamps have a time zone and others have none.
    """
    if len(names) > 1:
        return _joined(cells, names, numerals)
    (name,) = names
    column = cells.columns[name]
    if column.dtype.kind == "M":
        times = column.astype("datetime64[us]")
        _refuse_empty(cells, name, np.isnat(times))
        return Times(time_us=times.astype(np.int64), clock="timestamp")
    if column.dtype.kind in "fiu":
        _refuse_empty(cells, name, np.isnan(column) if column.dtype.kind == "f" else np.zeros(cells.rows, dtype=bool))
        return _from_numbers(cells, name, column, step_us)
    texts = cells.texts(name)
    _refuse_empty(cells, name, texts == "")
    codes, words = distinct(texts)
    numbers = [numerals.number(word) for word in words]
    if all(number is not None and not math.isnan(number) for number in numbers):
        values: NDArray[Any]
        if all(word.lstrip("+-").isdigit() for word in words):  # nanoseconds have more digits than a float64 holds
            values = np.array([min(max(int(word), -MAX_INT), MAX_INT) for word in words], dtype=np.int64)
        else:
            values = np.array(numbers, dtype=np.float64)
        return _from_numbers(cells, name, values[codes], step_us)
    return Times(time_us=_stamps(cells, name, codes, words)[codes], clock="timestamp")


def _from_numbers(cells: Cells, name: str, column: NDArray[Any], step_us: int | None) -> Times:
    """Read a column of plain numbers: epochs and compact stamps by their size, else steps."""
    found = epoch_times(cells, name, column, steps=step_us is not None)
    if found is not None:
        times, what = found
        return Times(time_us=times, clock="timestamp", notes=(f"column {name} holds {what}",))
    length = STEP_US if step_us is None else step_us
    steps = np.rint(column.astype(np.float64) * length)
    wild = ~(np.abs(steps) < MAX_US)
    if wild.any():
        row = int(np.argmax(wild))
        raise InputError(f"column {name!r} has {column[row]} for a step ({cells.where(row)})", hint=ISO)
    return Times(time_us=steps.astype(np.int64), clock="count" if step_us is None else "step")


def _stamps(cells: Cells, name: str, codes: NDArray[np.int64], words: Sequence[str]) -> NDArray[np.int64]:
    """Read the distinct texts of a column as times."""
    times, kinds = parse_stamps(words)
    if (kinds < 0).any():
        place = int(np.argmax(kinds < 0))
        row = int(np.argmax(codes == place))
        hint = f"{ISO}, or a plain step number with --interval"
        if is_ambiguous_day(words[place]):
            hint = f"day first or month first cannot be told: {ISO}"
        elif parse_time_of_day(words[place]) is not None:
            hint = "a time of day needs its date: in the same column, or in one called date beside it"
        raise InputError(
            f"column {name!r} has {words[place]!r} where a timestamp is wanted ({cells.where(row)})", hint=hint
        )
    if kinds.min() != kinds.max():
        row = int(np.argmax(kinds[codes] != kinds[codes[0]]))
        raise InputError(
            f"column {name!r}: some stamps have a time zone and others have none ({cells.where(row)})",
            hint="give all of them the same form, such as 2026-03-01T12:00:00Z",
        )
    return times


def _refuse_empty(cells: Cells, name: str, empty: NDArray[np.bool_]) -> None:
    if empty.any():
        raise InputError(f"column {name!r} is empty ({cells.where(int(np.argmax(empty)))})")


def time_columns(cells: Cells, chosen: str) -> tuple[str, ...]:
    """Return the columns that make up the time that ``chosen`` is part of: itself, or a date and a time of day.

    Joined are a date and a time of day (or an hour from 0 to 23) beside it, and year, month, day and what follows.
    """
    folded = {fold(name): name for name in cells.names}
    if fold(chosen) in CALENDAR and {"year", "month", "day"} <= set(folded):
        return tuple(folded[word] for word in CALENDAR if word in folded)
    others = [name for name in cells.names if name != chosen]
    if fold(chosen) in DATES and _all(cells, chosen, is_day):
        beside = [name for name in others if fold(name) in CLOCKS and _all(cells, name, _is_clock)]
        return (chosen, beside[0]) if beside else (chosen,)
    if fold(chosen) in CLOCKS and _all(cells, chosen, _is_clock):
        beside = [name for name in others if fold(name) in DATES and _all(cells, name, is_day)]
        return (beside[0], chosen) if beside else (chosen,)
    return (chosen,)


def is_date_alone(cells: Cells, name: str) -> bool:
    """Say whether a column holds dates without a time of day, and no other column has that."""
    return fold(name) in DATES and _all(cells, name, is_day) and time_columns(cells, name) == (name,)


def holds_stamps(cells: Cells, name: str) -> bool:
    """Say whether a column holds dates with a time of day."""
    if cells.columns[name].dtype.kind == "M":
        return not _all(cells, name, is_day)
    texts = distinct(cells.texts(name))[1]
    return all(parse_stamp(text) is not None and ":" in text for text in texts)


def _all(cells: Cells, name: str, test: Callable[[str], bool]) -> bool:
    if cells.columns[name].dtype.kind == "M":
        times = cells.columns[name].astype("datetime64[us]").astype(np.int64)
        return test is is_day and bool((times % DAY_US == 0).all())
    return all(map(test, distinct(cells.texts(name))[1]))


def _is_clock(text: str) -> bool:
    """Say whether a text is a time of day, or a whole hour of one."""
    return parse_time_of_day(text) is not None or (text.isdigit() and int(text) <= 23)


def _joined(cells: Cells, names: Sequence[str], numerals: Numerals) -> Times:
    """Put together a date and a time of day, or year, month, day and what follows."""
    note = f"time from columns {', '.join(names)} together"
    if fold(names[0]) != "year":
        day = read_times(cells, names[:1], step_us=None, numerals=numerals)
        codes, words = distinct(cells.texts(names[1]))
        clock = [_time_of_day(word) for word in words]
        return Times(time_us=day.time_us + np.array(clock)[codes], clock="timestamp", notes=(*day.notes, note))
    parts: list[NDArray[np.int64]] = []
    bounds = ((1, 9999), (1, 12), (1, 31), (0, 23), (0, 59), (0, 59))
    for name, (low, high) in zip(names, bounds, strict=False):
        numbers = read_numbers(cells, name, numerals)
        wrong = ~((numbers >= low) & (numbers <= high) & (numbers == np.round(numbers)))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"column {name!r} has {cells.texts(name)[row]!r}, want {low} to {high} as part of a date "
                f"({cells.where(row)})",
                hint="name one column of times with --timestamp-column, if these are not a date",
            )
        parts.append(numbers.astype(np.int64))
    parts += [np.zeros(cells.rows, dtype=np.int64)] * (6 - len(parts))
    days = days_from_civil(*parts[:3])
    seconds = (parts[3] * 60 + parts[4]) * 60 + parts[5]
    return Times(time_us=days * DAY_US + seconds * 1_000_000, clock="timestamp", notes=(note,))


def _time_of_day(word: str) -> int:
    time = parse_time_of_day(word)
    return int(word) * 3_600_000_000 if time is None else time
