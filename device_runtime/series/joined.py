"""Times in several columns: a date and a time of day, year, month and day, the number of a day."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct
from device_runtime.series.numerals import Numerals, read_numbers
from device_runtime.series.stamps import (
    DAY_US,
    days_from_civil,
    is_day,
    is_midnight,
    parse_stamp,
    parse_stamps,
    parse_time_of_day,
)
from device_runtime.series.words import CALENDAR, CLOCKS, DATES, fold

_HOUR_US, _MINUTE_US, _SECOND_US = 3_600_000_000, 60_000_000, 1_000_000
_SHORT: Mapping[str, str] = MappingProxyType(
    {"mon": "month", "mo": "month", "dd": "day", "hr": "hour", "hrs": "hour", "hours": "hour", "hh": "hour",
     "min": "minute", "mins": "minute", "minutes": "minute", "mi": "minute", "sec": "second", "secs": "second",
     "seconds": "second", "ss": "second"}
)  # fmt: skip
# What a number beside them counts, its first and last value, and how long 1 is.
_PARTS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "year": (1, 9999, 0),
        "month": (1, 12, 0),
        "day": (1, 31, 0),
        "hour": (0, 23, _HOUR_US),
        "minute": (0, 59, _MINUTE_US),
        "second": (0, 59, _SECOND_US),
        "secondofday": (0, 86_399, _SECOND_US),
        "minuteofday": (0, 1_439, _MINUTE_US),
        "dayofyear": (1, 366, DAY_US),
        "daynumber": (-4_000, 40_000, DAY_US),
    }
)
_OF_YEAR = ("doy", "dayofyear", "julianday", "jday", "yday")
_NUMBERS = ("day", "dayno", "daynumber", "studyday", "icuday", "dayofstay", "hospitalday", "stayday")
OF_DAY: Mapping[str, str] = MappingProxyType(
    {"secondofday": "secondofday", "secondsofday": "secondofday", "minuteofday": "minuteofday",
     "minutesofday": "minuteofday", "hourofday": "hour"}
)  # fmt: skip
# Days that programs put before a time of day that has none.
_NO_DAYS = frozenset({-25_569, -25_568, -25_567, 0})


def time_columns(cells: Cells, chosen: str) -> tuple[str, ...]:
    """Return the columns that make up the time that ``chosen`` is part of: itself, or all of them, the day first.

    Joined are a date and a time of day (or an hour from 0 to 23, a minute, a second) beside it; year, month, day and
    what follows; the number of a day and what follows.
    """
    roles = _roles(cells)
    for kind in (("year", "month", "day"), ("year", "dayofyear")):
        if set(kind) <= set(roles) and chosen in roles.values():
            return tuple(roles[role] for role in (*kind, *_following(cells, roles)))
    day = _date_beside(cells, chosen)
    if day is not None:
        clock = _clock_beside(cells, day) if day == chosen else chosen
        if clock is None:
            return (chosen,)
        rest = [role for role in _following(cells, roles) if role in ("minute", "second") and roles[role] != clock]
        hour = roles.get("hour") == clock
        return (day, clock, *(roles[role] for role in rest)) if hour else (day, clock)
    number = _day_number(cells, chosen)
    if number is not None and (following := _following(cells, roles) or _clock_alone(cells)):
        names = [roles.get(role, role) for role in following]
        if chosen in (number, *names):
            return (number, *names)
    if chosen in (roles.get("minute"), roles.get("second")) and "hour" in roles:
        following = _following(cells, roles)
        if len(following) > 1 and following[0] == "hour":
            return tuple(roles[role] for role in following)
    return (chosen,)


def _roles(cells: Cells) -> dict[str, str]:
    """Return the columns that are parts of a time by their names: role → column."""
    found: dict[str, str] = {}
    for name in cells.names:
        word = fold(name)
        role = "dayofyear" if word in _OF_YEAR else OF_DAY.get(word) or _SHORT.get(word, word)
        if role in (*CALENDAR, "dayofyear", "secondofday", "minuteofday"):
            found.setdefault(role, name)
    return found


def _following(cells: Cells, roles: Mapping[str, str]) -> tuple[str, ...]:
    """Return the parts after the day: hour, minute and second, or one that counts through the day; all in bounds."""
    for whole in ("secondofday", "minuteofday"):
        if whole in roles and _in_bounds(cells, roles[whole], whole):
            return (whole,)
    found: list[str] = []
    for role in ("hour", "minute", "second"):
        if role not in roles or not _in_bounds(cells, roles[role], role):
            break
        found.append(role)
    if not found and "second" in roles and _in_bounds(cells, roles["second"], "secondofday"):
        return ("second",)
    return tuple(found)


def _in_bounds(cells: Cells, name: str, role: str) -> bool:
    low, high, _ = _PARTS[role]
    return _all(cells, name, lambda text: (whole := _whole(text)) is not None and low <= whole <= high)


def _whole(text: str) -> int | None:
    said = text.removesuffix(".0")
    return int(said) if said.lstrip("-").isdigit() and said.isascii() and len(said) < 12 else None


def _date_beside(cells: Cells, chosen: str) -> str | None:
    """Return the column of the date of ``chosen``: itself, or one of that name or prefix; None where there is none."""
    if _is_date_name(chosen) and _holds_days(cells, chosen):
        return chosen
    if not _is_clock_name(chosen) or not _all(cells, chosen, _is_clock):
        return None
    own = _prefix(chosen)
    for name in sorted(cells.names, key=lambda name: _prefix(name) != own):
        if name != chosen and _is_date_name(name) and _prefix(name) in (own, "") and _holds_days(cells, name):
            return name
    return None


def _clock_beside(cells: Cells, day: str) -> str | None:
    """Return the column of the time of day beside a date."""
    own = _prefix(day)
    for name in sorted(cells.names, key=lambda name: _prefix(name) != own):
        if name != day and _is_clock_name(name) and _prefix(name) in (own, "") and _all(cells, name, _is_clock):
            return name
    return None


def _is_date_name(name: str) -> bool:
    return fold(name) in DATES or fold(name).endswith(("date", "datum"))


def _is_clock_name(name: str) -> bool:
    return fold(name) in CLOCKS or fold(name).endswith(("time", "clock", "uhrzeit"))


def _prefix(name: str) -> str:
    """Return a name without what says that it is a date or a time: ``chart`` of ``chart_date``."""
    word = fold(name)
    if word in (*DATES, *CLOCKS):
        return word.removesuffix("date") if word.endswith("date") else ""
    return next(
        (word.removesuffix(end) for end in ("date", "datum", "uhrzeit", "time", "clock") if word.endswith(end)), word
    )


def _holds_days(cells: Cells, name: str) -> bool:
    if cells.columns[name].dtype.kind == "M":
        return _holds_midnights(cells, name)
    words, form = distinct(cells.texts(name))[1], cells.date_form
    return all(is_day(word, form) for word in words) or all(is_midnight(word, form) for word in words)


def _holds_midnights(cells: Cells, name: str) -> bool:
    """Return whether all times of a column are the start of a day."""
    return bool((cells.columns[name].astype("datetime64[us]").astype(np.int64) % DAY_US == 0).all())


def _day_number(cells: Cells, chosen: str) -> str | None:
    """Return the column that numbers the days, beside which ``chosen`` says when in the day; or None."""
    words = (*_NUMBERS, *_OF_YEAR)
    number = next((name for name in cells.names if fold(name) in words and _in_bounds(cells, name, "daynumber")), None)
    return number if number is None or chosen != number or len(distinct(cells.texts(number))[1]) > 1 else None


def _clock_alone(cells: Cells) -> tuple[str, ...]:
    names = [name for name in cells.names if _is_clock_name(name) and _all(cells, name, _is_time_of_day)]
    return tuple(names[:1])


def is_date_alone(cells: Cells, name: str) -> bool:
    """Return whether a column holds dates without a time of day, and no other column has that."""
    return _is_date_name(name) and _holds_days(cells, name) and time_columns(cells, name) == (name,)


def holds_stamps(cells: Cells, name: str) -> bool:
    """Return whether a column holds dates with a time of day."""
    if cells.columns[name].dtype.kind == "M":
        return not _holds_midnights(cells, name)
    texts = distinct(cells.texts(name))[1]
    return all(parse_stamp(text, cells.date_form) is not None and ":" in text for text in texts)


def _all(cells: Cells, name: str, test: Callable[[str], bool]) -> bool:
    return cells.columns[name].dtype.kind != "M" and all(map(test, distinct(cells.texts(name))[1]))


def _is_clock(text: str) -> bool:
    """Return whether a text is a time of day, or a whole hour of one."""
    return _is_time_of_day(text) or (text.isdigit() and len(text) < 3 and int(text) <= 23)


def _is_time_of_day(text: str) -> bool:
    return _time_of_day(text) is not None


def _time_of_day(text: str) -> int | None:
    """Return a time of day in microseconds: ``14:05``, ``1405``, or after a day that is none (1899-12-30)."""
    time = parse_time_of_day(text)
    if time is None and len(text) == 4 and text.isdigit():
        time = parse_time_of_day(f"{text[:2]}:{text[2:]}")
    if time is None and (stamp := parse_stamp(text)) is not None and ":" in text and stamp[0] // DAY_US in _NO_DAYS:
        time = stamp[0] % DAY_US
    return time


def begins_with_date(cells: Cells, names: Sequence[str]) -> bool:
    """Return whether the first of joined columns holds dates."""
    return _is_date_name(names[0]) and _holds_days(cells, names[0])


def read_joined(
    cells: Cells, names: Sequence[str], numerals: Numerals
) -> tuple[NDArray[np.int64], Literal["timestamp", "step"], tuple[str, ...]]:
    """Put together what `time_columns` returned: microseconds ``[R]``, what they are, and what to say of them.

    Raises `InputError` for a part out of its bounds.
    """
    note = f"time from columns {', '.join(names)} together"
    roles = {name: role for role, name in _roles(cells).items()}
    total = np.zeros(cells.rows, dtype=np.int64)
    calendar: dict[str, NDArray[np.int64]] = {}
    clock: Literal["timestamp", "step"] = "step"
    for place, name in enumerate(names):
        role = roles.get(name, "")
        if place == 0 and begins_with_date(cells, names):
            total += _days(cells, name)
            clock = "timestamp"
        elif place == 0 and fold(name) in (*_NUMBERS, *_OF_YEAR):
            number = _part(cells, name, "daynumber", numerals)
            last = 365 if fold(name) in _OF_YEAR else 28
            if fold(name) in (*_OF_YEAR, "day") and number.min() == 1 and number.max() >= last:
                raise InputError(
                    f"{cells.source}: column {name!r} counts the days of a {'year' if last == 365 else 'month'} and "
                    "begins again: nothing says of which",
                    hint="add columns year and month (year, for a day of the year), or write whole dates",
                )
            total += number * DAY_US
        elif role in ("year", "month", "day", "dayofyear"):
            calendar[role] = _part(cells, name, role, numerals)
        elif role in _PARTS:
            role = "secondofday" if role == "second" and "minute" not in [roles.get(one) for one in names] else role
            total += _part(cells, name, role, numerals) * _PARTS[role][2]
        else:
            codes, words = distinct(cells.texts(name))
            total += np.array([_time_of_day(word) or 0 for word in words], dtype=np.int64)[codes]
    if calendar:
        clock = "timestamp"
        one = np.ones(cells.rows, dtype=np.int64)
        days = days_from_civil(calendar["year"], calendar.get("month", one), calendar.get("day", one))
        total += (days + calendar.get("dayofyear", one) - 1) * DAY_US
    return total, clock, (note,)


def _days(cells: Cells, name: str) -> NDArray[np.int64]:
    if cells.columns[name].dtype.kind == "M":
        return cells.columns[name].astype("datetime64[us]").astype(np.int64)
    codes, words = distinct(cells.texts(name))
    return parse_stamps(words, cells.date_form)[0][codes]


def _part(cells: Cells, name: str, role: str, numerals: Numerals) -> NDArray[np.int64]:
    """Return one part of a time, whole numbers within its bounds ``[R]``."""
    low, high, _ = _PARTS[role]
    numbers = read_numbers(cells, name, numerals)
    wrong = ~((numbers >= low) & (numbers <= high) & (numbers == np.round(numbers)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"column {name!r} has {cells.texts(name)[row]!r}, want {low} to {high} as part of a date "
            f"({cells.where(row)})",
            hint="name one column of times with --timestamp-column, if these are not a date",
        )
    return numbers.astype(np.int64)
