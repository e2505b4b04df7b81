"""The times of a table: which columns hold them, what their numbers mean, and all of it in microseconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct, is_missing, listed
from device_runtime.series.date_formats import DateFormat, fitting
from device_runtime.series.elapsed import elapsed_times
from device_runtime.series.epochs import epoch_times
from device_runtime.series.joined import OF_DAY, begins_with_date, read_joined
from device_runtime.series.numerals import Numerals
from device_runtime.series.stamps import is_ambiguous_day, parse_stamps, parse_time_of_day
from device_runtime.series.words import ZONES, fold

# "timestamp": times; "step": plain numbers of known length; "count": plain numbers of unknown length.
Clock = Literal["timestamp", "step", "count"]
STEP_US = 1_000_000  # what one step of unknown length counts as
MAX_INT = 2**63 - 1
MAX_US = 2.0**62  # microseconds from step 0; int64 holds 2^63
ISO = "write ISO 8601, such as 2026-03-01 12:00:00 or 2026-03-01T12:00:00Z"


@dataclass(frozen=True, kw_only=True, eq=False)
class Times:
    """When each row was measured, and how the times were interpreted."""

    time_us: NDArray[np.int64]  # [R], since 1970 (UTC), or since step 0
    clock: Clock
    notes: tuple[str, ...] = ()


def read_times(cells: Cells, names: Sequence[str], *, step_us: int | None, numerals: Numerals) -> Times:
    """Return microseconds ``[R]`` from the column ``names[0]``, or from those that make up the time together.

    ``step_us`` is how long 1 is in a column of plain step numbers. Raises `InputError` for an empty or unreadable
    field, or when some timestamps have a time zone and others have none.
    """
    require_dates_as_text(cells, names)
    if len(names) > 1:
        times, clock, notes = read_joined(cells, names, numerals)
        return Times(time_us=times, clock=clock, notes=notes)
    (name,) = names
    if fold(name) in OF_DAY:
        raise InputError(
            f"column {name!r} of {cells.source} is the time of a day, and no column says of which day",
            hint="add a column date, or day with its number; or name another column with --timestamp-column",
        )
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
    if cells.dates is not None:
        _refuse_several_zones(cells)
        return Times(time_us=_stamps(cells, name, codes, words)[codes], clock="timestamp")
    numbers = [numerals.number(word) for word in words]
    if all(number is not None and not math.isnan(number) for number in numbers):
        values: NDArray[Any]
        if all(word.lstrip("+-").isdigit() for word in words):  # nanoseconds have more digits than a float64 holds
            values = np.array([min(max(int(word), -MAX_INT), MAX_INT) for word in words], dtype=np.int64)
        else:
            values = np.array(numbers, dtype=np.float64)
        return _from_numbers(cells, name, values[codes], step_us)
    if (elapsed := elapsed_times(name, words)) is not None:
        return Times(time_us=elapsed[codes], clock="step", notes=(f"column {name} holds times since a start",))
    _refuse_several_zones(cells)
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
    times, kinds = parse_stamps(words, cells.date_form)
    if (kinds < 0).any():
        place = int(np.argmax(kinds < 0))
        row = int(np.argmax(codes == place))
        wanted = "a timestamp" if cells.dates is None else f"a date as {cells.dates.text}, perhaps with a time of day,"
        raise InputError(
            f"column {name!r} has {words[place]!r} where {wanted} is needed ({cells.where(row)})",
            hint=_how_to_write(words, words[place], cells.dates),
        )
    if kinds.min() != kinds.max():
        row = int(np.argmax(kinds[codes] != kinds[codes[0]]))
        raise InputError(
            f"column {name!r}: some timestamps have a time zone and others have none ({cells.where(row)})",
            hint="give all of them the same form, such as 2026-03-01T12:00:00Z",
        )
    return times


def _how_to_write(words: Sequence[str], unread: str, said: DateFormat | None) -> str:
    """Return a hint for times ``words``, of which ``unread`` is not readable, if ``said`` is the ``--date-format``."""
    if said is not None and (parse_stamps(words)[1] >= 0).all():
        return "leave --date-format out: these dates show their order"
    fit = [f"--date-format {one}" for one in fitting(words)]
    if fit:
        told = "the only order that fits them all" if len(fit) == 1 else "day first or month first cannot be told"
        return f"say {' or '.join(fit)}: {told}"
    if said is not None:
        return f"write all of the column as {said.text}, or leave --date-format out"
    if is_ambiguous_day(unread):
        return f"no one order of day and month fits all of the column: {ISO}"
    if parse_time_of_day(unread) is not None:
        return "a time of day needs its date: in the same column, or in one called date beside it"
    return f"{ISO}, or a plain step number with --interval"


def require_dates_as_text(cells: Cells, names: Sequence[str]) -> None:
    """Refuse a format of dates for times that ``names`` hold in another way, or that there are none of."""
    text = bool(names) and cells.is_text(names[0])
    if cells.dates is None or (text and (len(names) == 1 or begins_with_date(cells, names))):
        return
    raise InputError(
        f"{cells.source}: --date-format {cells.dates.text}: its times are no dates that are text",
        hint="leave it out, or name the column of the dates with --timestamp-column",
    )


def _refuse_empty(cells: Cells, name: str, empty: NDArray[np.bool_]) -> None:
    if empty.any():
        raise InputError(
            f"column {name!r} is empty ({cells.where(int(np.argmax(empty)))}; {int(empty.sum())} such rows)",
            hint="give every row its time, or leave the row out",
        )


def _refuse_several_zones(cells: Cells) -> None:
    """Refuse times beside a column that says that they are of several zones."""
    name = next((name for name in cells.names if fold(name) in ZONES), None)
    if name is None:
        return
    zones = [text for text in distinct(cells.texts(name))[1] if not is_missing(text)]
    if len(zones) > 1:
        raise InputError(
            f"{cells.source}: column {name!r} says that times are of several zones: {listed(zones[:4])}",
            hint="write each time with its own offset, such as 2026-03-01T12:00:00+01:00",
        )
