"""Parsing of times in text, in the formats that files use: microseconds since 1970 (UTC if a zone is given)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

import numpy as np
from numpy.typing import NDArray

DAY_US = 86_400_000_000
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
_EPOCH = date(1970, 1, 1).toordinal()
ZONE = r"(?P<zone>[zZ]|\s*[+-]\d{2}(?::?\d{2})?|\s*(?:UTC|GMT)|[zZ]?\[UTC\])?"
CLOCK = r"(?P<h>\d{1,2}):(?P<min>\d{1,2})(?::(?P<s>\d{1,2})(?P<f>[.,]\d+)?)?(?P<half>\s*[aApP]\.?[mM]\.?)?"
_BASIC_CLOCK = r"(?P<h>\d{2})(?:(?P<min>\d{2})(?:(?P<s>\d{2})(?P<f>[.,]\d+)?)?)?"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?"
_MONTH = r"(?P<mon>[a-z]{3,9})\.?"
_FORMS = tuple(
    re.compile(form, re.ASCII)
    for form in (
        rf"(?P<y>\d{{4}})(?P<mark>[-/.])(?P<m>\d{{1,2}})(?P=mark)(?P<d>\d{{1,2}})(?:(?:[Tt]|\s+){CLOCK}{ZONE})?",
        rf"(?P<d>\d{{1,2}})\.(?P<m>\d{{1,2}})\.(?P<y>\d{{4}})(?:(?:[Tt]|,?\s+){CLOCK}{ZONE})?",
        rf"(?P<y>\d{{4}})(?P<m>\d{{2}})(?P<d>\d{{2}})(?:[Tt _-]?{_BASIC_CLOCK}{ZONE})?",
        rf"(?P<y>\d{{4}})(?P<m>\d{{2}})(?P<d>\d{{2}})[Tt ]{CLOCK}{ZONE}",
        rf"(?P<y>\d{{4}})-(?P<m>\d{{2}})-(?P<d>\d{{2}})[Tt]{_BASIC_CLOCK}{ZONE}",
        r"(?P<y>\d{4})-(?P<m>\d{2})",
        # Months by their English names: 01-Mar-2026, 1 March 2026, 01MAR2026:12:00, Mar 1, 2026.
        rf"(?i:{_WEEKDAY}(?P<d>\d{{1,2}})[-/. ]?\s*{_MONTH}[-/., ]?\s*(?P<y>\d{{4}})"
        rf"(?:(?:[t:]|,?\s+){CLOCK}{ZONE})?)",
        rf"(?i:{_WEEKDAY}{_MONTH}\s+(?P<d>\d{{1,2}}),?\s+(?P<y>\d{{4}})(?:,?\s+{CLOCK}{ZONE})?)",
    )
)
_TIME_OF_DAY = re.compile(CLOCK, re.ASCII)
_DATES_WITH_SLASHES = re.compile(r"\d{1,2}[/-]\d{1,2}[/-]\d{2,4}(\s.*)?", re.ASCII)


def parse_stamp(text: str, form: re.Pattern[str] | None = None) -> tuple[int, bool] | None:
    """Return a time in microseconds since 1970, and whether it has a time zone (it is UTC then); None for no time.

    Dates with year first (``-``, ``/``, ``.`` or nothing between) or as ``31.12.2026``, hours with or without a
    leading zero or with AM and PM, fractions of any length (cut to microseconds), English months, offsets as ``Z``,
    ``+02:00``, ``+0200`` or ``+02``. With a ``form`` in that one alone.
    """
    said = text.strip()
    for one in _FORMS if form is None else (form,):
        if found := one.fullmatch(said):
            parts = found.groupdict()
            day = _day(_year(parts), _month(parts), int(parts.get("d") or 1))
            clock = _clock(parts)
            offset = _offset(parts.get("zone"))
            if day is None or clock is None or offset is None:
                return None
            return day * DAY_US + clock - offset, parts.get("zone") is not None
    return None


def parse_time_of_day(text: str) -> int | None:
    """Return ``14:05``, ``4:05:30.5`` or ``2:05 PM`` in microseconds after midnight, or None."""
    found = _TIME_OF_DAY.fullmatch(text.strip())
    if found is None:
        return None
    return _clock(found.groupdict())


def is_day(text: str, form: re.Pattern[str] | None = None) -> bool:
    """Return whether a text is a date without a time of day."""
    stamp = parse_stamp(text, form)
    return stamp is not None and stamp[0] % DAY_US == 0 and ":" not in text and len(text.strip()) <= 10


def is_midnight(text: str, form: re.Pattern[str] | None = None) -> bool:
    """Return whether a text is the first moment of a day, which is how a date without a time of day may be written."""
    stamp = parse_stamp(text, form)
    return stamp is not None and stamp[0] % DAY_US == 0


def is_ambiguous_day(text: str) -> bool:
    """Return whether a text begins with a date whose first number may be the day or the month (``03/04/2026``)."""
    return _DATES_WITH_SLASHES.fullmatch(text.strip()) is not None


def parse_stamps(
    texts: Sequence[str], form: re.Pattern[str] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Return many times in microseconds ``[N]``, and whether each has a zone (1), none (0), or is no time (-1)."""
    times = np.zeros(len(texts), dtype=np.int64)
    kinds = np.full(len(texts), -1, dtype=np.int8)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    for length in (16, 19) if form is None else ():
        places = np.flatnonzero(lengths == length)
        if len(places) > 64:
            good, values = _plain_stamps([texts[place] for place in places.tolist()], length)
            times[places[good]], kinds[places[good]] = values[good], 0
    for place in np.flatnonzero(kinds < 0).tolist():
        if (stamp := parse_stamp(texts[place], form)) is not None:
            times[place], kinds[place] = stamp[0], int(stamp[1])
    return times, kinds


def _plain_stamps(texts: Sequence[str], length: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Read ``2026-03-01 12:00`` or ``2026-03-01T12:00:00``, many at once; return which of them have this format."""
    codes = np.array(texts, dtype=f"U{length}").view(np.uint32).reshape(len(texts), length).astype(np.int64)
    pattern = "dddd-dd-dd dd:dd:dd"[:length]
    digits = [place for place, kind in enumerate(pattern) if kind == "d"]
    good = ((codes[:, digits] >= 48) & (codes[:, digits] <= 57)).all(axis=1)
    for place in (4, 7, 13, 16)[: 3 if length == 16 else 4]:
        good &= codes[:, place] == ord(pattern[place])
    good &= (codes[:, 10] == 32) | (codes[:, 10] == 84)

    def number(*places: int) -> NDArray[np.int64]:
        total = np.zeros(len(texts), dtype=np.int64)
        for place in places:
            total = total * 10 + codes[:, place] - 48
        return total

    year, month, day, hour, minute = (number(*p) for p in ((0, 1, 2, 3), (5, 6), (8, 9), (11, 12), (14, 15)))
    second = number(17, 18) if length == 19 else np.zeros_like(year)
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 28)  # ends of months: one by one
    good &= (hour <= 23) & (minute <= 59) & (second <= 59)
    return good, days_from_civil(year, month, day) * DAY_US + ((hour * 60 + minute) * 60 + second) * 1_000_000


def days_from_civil(year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return days since 1970-01-01 of dates of the Gregorian calendar (Hinnant's algorithm)."""
    year = year - (month <= 2)
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days: NDArray[np.int64] = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return days


def _year(parts: dict[str, str | None]) -> int:
    """Return a year; one of two digits is of 1969 to 2068."""
    if (short := parts.get("yy")) is None:
        return int(parts["y"] or 0)
    return int(short) + (1900 if int(short) >= 69 else 2000)


def _month(parts: dict[str, str | None]) -> int:
    """Return a month by its number or English name; 0 for none."""
    name = parts.get("mon")
    if name is None:
        return int(parts["m"] or 0)
    said = name.casefold()
    return next((at for at, month in enumerate(_MONTHS, start=1) if said in (month, month[:3], month[:4])), 0)


def _day(year: int, month: int, day: int) -> int | None:
    try:
        return date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None


def _clock(parts: dict[str, str | None]) -> int | None:
    """Return the time of day in microseconds; 24:00 is the end of the day."""
    hour, minute, second = (int(parts.get(name) or 0) for name in ("h", "min", "s"))
    if half := (parts.get("half") or "").strip()[:1].casefold():
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "p" else 0)
    fraction = (parts.get("f") or ".0")[1:7].ljust(6, "0")
    if minute > 59 or second > 59 or hour > 24 or (hour == 24 and (minute, second, int(fraction)) != (0, 0, 0)):
        return None
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + int(fraction)


def _offset(zone: str | None) -> int | None:
    """Return a zone's offset from UTC in microseconds, or None for an impossible one."""
    digits = re.sub(r"\D", "", zone or "")
    if not digits:
        return 0
    hours, minutes = int(digits[:2]), int(digits[2:] or 0)
    if hours > 15 or minutes > 59:
        return None
    return (hours * 60 + minutes) * 60_000_000 * (-1 if "-" in (zone or "") else 1)
