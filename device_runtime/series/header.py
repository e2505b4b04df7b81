"""The head of a text table: lines before the header, its names, the delimiter, a line of units below it."""

from __future__ import annotations

import csv
import re
from typing import NamedTuple

from device_runtime.errors import InputError
from device_runtime.series.signals import find_signal
from device_runtime.series.units import find_unit
from device_runtime.series.words import STEP_WORDS, TIMESTAMPS, fold

DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(r"sep=(.)\n", re.IGNORECASE)  # how Excel names the delimiter
_FORMS_OF_TIME = re.compile(r"(datetime|date|time|timestamp|[ymdhs:/. t-]{4,})", re.IGNORECASE)


class Head(NamedTuple):
    """The columns' names, the delimiter, and the text of the rows and the line (from 1) that they begin on."""

    names: list[str]
    delimiter: str
    body: str
    first: int  # line number, from 1
    notes: tuple[str, ...] = ()


def split_head(text: str, where: str) -> Head:
    """Find the header of a table.

    Blank lines before it are passed over, and lines of comment that begin with ``#``; a line ``sep=;`` names the
    delimiter. A line of units below it (``bpm,mmHg``) says what the columns of vital signs are in, as ``MAP [mmHg]``
    does. Raises `InputError`.
    """
    skipped = len(text[:4096]) - len(text[:4096].lstrip("\n"))
    stated = _SEPARATOR_LINE.match(text, skipped)
    begin = _after_comments(text, stated.end() if stated else skipped)
    head, _, body = text[begin:].partition("\n")
    if not head.strip():
        raise InputError(f"{where} is empty: expected a first line that names the columns")
    delimiter = stated[1] if stated else find_delimiter(head, body)
    try:
        names = [name.strip() for name in _cells(head, delimiter)]
    except csv.Error as error:
        raise InputError(f"{where}: its first line cannot be read: {error}", hint="it names the columns") from error
    if len(names) > 1 and names[0].startswith("#"):
        names[0] = names[0].lstrip("# ") or names[0]
    names = [name or f"unnamed {place}" for place, name in enumerate(names, start=1)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{where} has two columns called {twice[0]!r}", hint="rename one of them")
    first = text.count("\n", 0, begin) + 2
    units = _units_below(names, body, delimiter)
    if units is None:
        return Head(names, delimiter, body, first)
    return Head(units, delimiter, body.partition("\n")[2], first + 1, (f"line {first} holds the columns' units",))


def _after_comments(text: str, begin: int) -> int:
    """Return where the header begins behind lines of comment; ``#time,HR`` above rows is a header."""
    while text.startswith("#", begin):
        line, end, rest = text[begin:].partition("\n")
        below = rest[:4096].partition("\n")[0]
        fields = line.count(find_delimiter(line, below))
        numbers = re.search(r"(^|[,;|\t])[\d.]+([,;|\t]|$)", below)
        if not end or (fields and fields == below.count(find_delimiter(line, below)) and numbers):
            return begin
        begin += len(line) + 1
    return begin


def _units_below(names: list[str], body: str, delimiter: str) -> list[str] | None:
    """Return the names with the units that the line below them states; None where it states none."""
    line = body.partition("\n")[0]
    if len(names) < 2 or re.search(r"\d\d", line) or not line.strip():
        return None
    try:
        cells = [cell.strip().strip("[]()") for cell in _cells(line, delimiter)]
    except csv.Error:
        return None
    if len(cells) != len(names) or not any(
        find_unit(cell) and find_signal(name) for name, cell in zip(names, cells, strict=True)
    ):
        return None
    if not all(not cell or _is_unit(cell) or _FORMS_OF_TIME.fullmatch(cell) for cell in cells):
        return None
    return [
        f"{name} [{cell}]"
        if (find_signal(name) and find_unit(cell)) or (fold(name) in TIMESTAMPS and cell.casefold() in STEP_WORDS)
        else name
        for name, cell in zip(names, cells, strict=True)
    ]


def _is_unit(cell: str) -> bool:
    return not cell.isdigit() and (find_unit(cell) is not None or cell.casefold() in STEP_WORDS or "/" in cell)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


def find_delimiter(head: str, body: str) -> str:
    """Return the delimiter: the one that the header has most of, outside of quotes and brackets."""
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]|\([^)]*\)', "", head)
    counts = {one: bare.count(one) for one in DELIMITERS}
    best = max(counts.values())
    likely = [one for one in DELIMITERS if counts[one] == best]
    if len(likely) > 1 and best:
        first = body.partition("\n")[0]
        likely.sort(key=lambda one: first.count(one) != best)
    return likely[0]
