"""Spans of time as people write them, in whole microseconds: the one syntax of every option that takes one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

from device_runtime.errors import InputError

UNITS_US: Mapping[str, int] = MappingProxyType(
    {
        "d": 86_400_000_000,
        "h": 3_600_000_000,
        "min": 60_000_000,
        "s": 1_000_000,
        "ms": 1_000,
        "us": 1,
    }
)
_WORDS = {
    "w": "week weeks",
    "d": "day days",
    "h": "hr hrs hour hours",
    "min": "mins minute minutes",
    "s": "sec secs second seconds",
    "ms": "millisecond milliseconds",
    "us": "µs μs microsecond microseconds",
}
_UNIT_OF_WORD = {word: unit for unit, words in _WORDS.items() for word in (unit, *words.split())}
_SIZES = {**UNITS_US, "w": 7 * UNITS_US["d"]}
_CALENDAR = re.compile(r"m|mo|mon|month|months|ms?e?|q|quarter|quarters|y|yr|yrs|year|years|a|ye|ys", re.IGNORECASE)
_TERM = re.compile(r"(\d+(?:\.\d+)?)\s*([^\W\d_]+)")
_HINT = "write a number and its unit: 1h, 5min, 30s, 250ms or 1d"
LONGEST_US = 2**62


def parse_duration(text: str, *, what: str = "interval") -> int:
    """Return ``1h``, ``5min``, ``30s``, ``250ms``, ``1d`` or ``1h30min`` in microseconds.

    Raises `InputError` for a bare number, which could be of two units; for months and years, which have no one
    length; for what is not a span, not longer than nothing, or no whole number of microseconds.
    """
    said = text.strip()
    if re.fullmatch(r"[+-]?\d+(\.\d*)?", said):
        first, second = _likely(float(said))
        raise InputError(f"{what} {text!r} has no unit", hint=f"say {said}{first} or {said}{second}")
    negative = said.startswith("-")
    said = said.lstrip("-")
    total, end = Fraction(0), 0
    for term in _TERM.finditer(said):
        if said[end : term.start()].strip():
            break
        total += Fraction(term[1]) * _size(term[2], text, what)
        end = term.end()
    if not end or said[end:].strip():
        raise InputError(f"{what} {text!r} is not a span of time", hint=_HINT)
    total = -total if negative else total
    if total <= 0 or total > LONGEST_US:
        raise InputError(f"{what} {text!r} is {'not longer than nothing' if total <= 0 else 'too long'}", hint=_HINT)
    if total.denominator != 1:
        raise InputError(f"{what} {text!r} is not a whole number of microseconds", hint=_HINT)
    return int(total)


def _size(word: str, text: str, what: str) -> int:
    """Return a unit in microseconds."""
    unit = _UNIT_OF_WORD.get(word.casefold())
    if unit is not None and word != "MS":  # pandas writes month starts so
        return _SIZES[unit]
    if _CALENDAR.fullmatch(word):
        minutes = " (minutes are min)" if word == "m" else ""
        raise InputError(
            f"{what} {text!r}: months, quarters and years have no one length and are not supported{minutes}",
            hint="number the steps (0, 1, 2 ...) in place of the dates, or say a span such as 30d",
        )
    raise InputError(f"{what} {text!r} is not a span of time", hint=_HINT)


def _likely(number: float) -> tuple[str, str]:
    """Return the two units that a bare number most often stands for."""
    if number == 1:
        return "h", "min"
    return ("s", "min") if number < 1000 else ("ms", "s")


def say_duration(span_us: int) -> str:
    """Return a span as people write it, such that `parse_duration` reads it back: ``1h``, ``5min``, ``1500ms``."""
    for word, size in UNITS_US.items():
        if span_us >= size and span_us % size == 0:
            return f"{span_us // size}{word}"
    return f"{span_us}us"
