"""Plain numbers that are times: seconds since 1970 or finer, ``YYYYMMDDHHMM``, spreadsheets' days."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells
from device_runtime.series.stamps import parse_stamps
from device_runtime.series.words import fold

# Years 1990 to 2200, for units of which such numbers cannot be of another: 1.77e9 s, 1.77e12 ms ...
_EARLIEST_S, _LATEST_S = 631_152_000, 7_258_118_400
# A count of 100 ns since the year 1, as .NET has it, would be nanoseconds of 1990.
_TICKS = (6.2e17, 6.7e17)
_EPOCHS = (("seconds", 1), ("milliseconds", 1_000), ("microseconds", 1_000_000), ("nanoseconds", 1_000_000_000))
_COMPACT = {8: "YYYYMMDD", 10: "YYYYMMDDHH", 12: "YYYYMMDDHHMM", 14: "YYYYMMDDHHMMSS"}
_SHEET_DAYS = (32_874, 109_575)  # 1990 to 2200, as spreadsheets count days


def epoch_times(
    cells: Cells, name: str, column: NDArray[np.int64] | NDArray[np.float64], *, steps: bool
) -> tuple[NDArray[np.int64], str] | None:
    """Return microseconds ``[R]`` and what the numbers are, or None where they are steps.

    ``steps`` says that somebody said how long one step is. Raises `InputError` for a spreadsheet's days, and where
    only some of the numbers are times.
    """
    if not len(column):
        return None
    compact = _compact(column)
    if compact is not None:
        return compact
    low, high = float(np.nanmin(column)), float(np.nanmax(column))
    if _TICKS[0] <= low and high <= _TICKS[1]:
        raise InputError(
            f"column {name!r} of {cells.source}: {low:.0f} may be nanoseconds since 1970 (of 1990), or 100 ns since "
            f"the year 1 as .NET counts ticks ({cells.where(int(np.nanargmin(column)))})",
            hint="write ISO 8601, such as 2026-03-01 12:00:00",
        )
    for unit, per_second in _EPOCHS:
        first, last = _EARLIEST_S * per_second, _LATEST_S * per_second
        if first <= low and high <= last:
            return _to_us(column, per_second), f"{unit} since 1970"
        # Most are times, and some too small for one: what stands for no time. Else it is a long count of steps.
        if not steps and first <= high <= last and float(np.median(column)) >= first:
            row = int(np.nanargmin(column))
            raise InputError(
                f"column {name!r} of {cells.source}: {high:.0f} looks like {unit} since 1970, {low:.0f} does not "
                f"({cells.where(row)})",
                hint="correct or leave out the rows whose time is not one",
            )
    if high > _LATEST_S and not steps:
        raise InputError(
            f"column {name!r} of {cells.source}: {high:.0f} is no time and too large for a step "
            f"({cells.where(int(np.nanargmax(column)))})",
            hint="write ISO 8601, such as 2026-03-01 12:00:00",
        )
    _refuse_sheet_days(cells, name, column, low, high, steps=steps)
    return None


def _to_us(column: NDArray[np.int64] | NDArray[np.float64], per_second: int) -> NDArray[np.int64]:
    if column.dtype.kind == "f":
        return np.rint(column.astype(np.float64) * (1e6 / per_second)).astype(np.int64)
    whole = column.astype(np.int64)
    return whole * (1_000_000 // per_second) if per_second <= 1_000_000 else whole // (per_second // 1_000_000)


def _compact(column: NDArray[np.int64] | NDArray[np.float64]) -> tuple[NDArray[np.int64], str] | None:
    """Return the times of numbers such as 202603010005, where all of them are written so."""
    if column.dtype.kind == "f":
        if not bool((column == np.round(column)).all()) or float(np.abs(column).max()) > 2**53:
            return None
        column = column.astype(np.int64)
    length = len(str(int(column[0])))
    if (
        length not in _COMPACT
        or int(column.min()) < 1900 * 10 ** (length - 4)
        or int(column.max()) >= 2300 * 10 ** (length - 4)
    ):
        return None
    values, codes = np.unique(column, return_inverse=True)
    times, kinds = parse_stamps([str(value) for value in values])
    if (kinds < 0).any() or (length == 8 and len(values) < 2):
        return None
    return times[codes.reshape(-1)], f"times written {_COMPACT[length]}"


def _refuse_sheet_days(
    cells: Cells,
    name: str,
    column: NDArray[np.int64] | NDArray[np.float64],
    low: float,
    high: float,
    *,
    steps: bool,
) -> None:
    """Refuse numbers that are days since 1899-12-30, as spreadsheets count them and CSV exports leave them."""
    if not (_SHEET_DAYS[0] <= low and high <= _SHEET_DAYS[1]):
        return
    fractions = column.dtype.kind == "f" and bool((column != np.round(column)).any())
    called = any(word in fold(name) for word in ("date", "time", "datum", "zeit", "day", "ds"))
    if fractions or (called and not steps):
        day = np.datetime64("1899-12-30T00:00:00") + np.timedelta64(round(low * 86_400), "s")
        raise InputError(
            f"column {name!r} of {cells.source}: {low:.12g} looks like a spreadsheet's number of days ({day})",
            hint="format the column as text such as 2026-03-01 12:00:00 and export it again"
            + ("" if fractions else "; if it counts steps, say how long one is with --interval"),
        )
