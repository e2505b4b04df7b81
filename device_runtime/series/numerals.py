"""Numbers as text: the decimal separator is decided once for a file, over all of its rows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct, is_missing

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE | re.ASCII)
# A number with commas, or with several marks: 36,5  1.051  1,234.5  1.234,5  1 234,5  1'234.5
_MARKED = re.compile(r"[+-]?\d*(?:[.,'’ \u00a0\u202f]\d+)+(?:[eE][+-]?\d+)?", re.ASCII)
_GROUPS = {".": r"\.", ",": ",", " ": r"[ \u00a0\u202f'’]"}
_HINT = "say which with --decimal . or --decimal ,"


@dataclass(frozen=True)
class Numerals:
    """How a file writes numbers: its decimal mark, and what to say of it."""

    decimal: str = "."
    note: str | None = None

    def number(self, text: str) -> float | None:
        """Return the number that ``text`` writes, NaN for a missing one, or None for no number."""
        said = text.strip()
        if self.decimal == "." and _PLAIN.fullmatch(said):
            return float(said)
        if is_missing(said):
            return float("nan")
        plain = _without_groups(said, self.decimal)
        return None if plain is None else float(plain)


def _without_groups(text: str, decimal: str) -> str | None:
    """Return a number with ``.`` for its decimal mark and none between thousands, or None."""
    whole, mark, rest = text.partition(decimal)
    sign = whole[:1] if whole[:1] in "+-" else ""
    digits = whole[len(sign) :]
    if not digits.isascii() or not digits.isdigit():
        for name, one in _GROUPS.items():
            if name != decimal and re.fullmatch(rf"[1-9]\d{{0,2}}(?:{one}\d{{3}})+", digits, re.ASCII):
                digits = re.sub(one, "", digits)
                break
    plain = f"{sign}{digits}.{rest}" if mark else f"{sign}{digits}"
    return plain if "." not in digits and _PLAIN.fullmatch(plain) else None


def evidence(text: str) -> str | None:
    """Return the decimal mark that a number shows beyond doubt, ``?`` where it could be either, None for neither.

    ``36,5`` shows a comma; ``1.051`` could be a little more than one or a thousand and more.
    """
    said = text.strip()
    if not _MARKED.fullmatch(said):
        return None
    marks = [one for one in said if one in ".,"]
    if not marks:
        return None
    if len(set(marks)) == 2:
        return marks[-1] if marks.count(marks[-1]) == 1 else None
    if len(marks) > 1:
        other = "," if marks[0] == "." else "."
        return other if _without_groups(said, other) is not None else None
    grouped = re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}{_GROUPS[marks[0]]}\d{{3}}", said, re.ASCII)
    return "?" if grouped else marks[0]


def decide(cells: Cells, skip: Iterable[str], *, decimal: str | None = None) -> Numerals:
    """Decide how a file writes numbers, from every cell of every column of numbers but those in ``skip`` (ids).

    Raises `InputError` where columns contradict each other, or where nothing says what ``1.051`` is in a file whose
    delimiter is ``;``, as it is where a comma is the decimal mark.
    """
    if decimal is not None:
        return Numerals(decimal, note=f"decimal mark {decimal}, as said")
    if not cells.commas and cells.delimiter != ";":
        return Numerals()
    skipped = set(skip)
    seen: dict[str, tuple[str, str]] = {}  # decimal mark -> a column and a cell that show it
    doubtful: tuple[str, str] | None = None
    for name in cells.names:
        if name in skipped or not cells.is_text(name):
            continue
        shown = _shown_by(cells, name)
        for mark, cell in shown.items():
            if mark == "?":
                doubtful = doubtful if doubtful and "," in doubtful[1] else (name, cell)
            else:
                seen.setdefault(mark, (name, cell))
        if "." in seen and not cells.commas:
            break  # nothing can contradict it
    if len(seen) == 2:
        (a, one), (b, other) = seen["."], seen[","]
        raise InputError(
            f"{cells.source} writes numbers in two ways: {one!r} in column {a!r}, {other!r} in column {b!r}",
            hint="write all of them with the same decimal separator",
        )
    if seen:
        (mark,) = seen
        note = None if mark == "." else f"decimal comma, as in {seen[mark][1]!r} ({seen[mark][0]})"
        return Numerals(mark, note=note)
    if doubtful is not None and (cells.delimiter == ";" or "," in doubtful[1]):
        raise InputError(
            f"{cells.source}: {doubtful[1]!r} in column {doubtful[0]!r} may have a thousands or a decimal separator",
            hint=_HINT,
        )
    return Numerals()


def _shown_by(cells: Cells, name: str) -> dict[str, str]:
    """Return the decimal marks that a column shows, each with a cell; nothing for a column that is not of numbers."""
    shown: dict[str, str] = {}
    column = cells.columns[name]
    for cell in set(column):
        mark = evidence(cell)
        if mark is not None:
            shown.setdefault(mark, cell.strip())
        elif not _PLAIN.fullmatch(cell.strip()) and not is_missing(cell):
            return {}
    return shown


def read_numbers(cells: Cells, name: str, numerals: Numerals) -> NDArray[np.float64]:
    """Return a column as float64 ``[R]``, NaN where empty. Raises `InputError` naming the first text in it."""
    column = cells.columns[name]
    if column.dtype.kind in "fiu":
        return column.astype(np.float64)
    if column.dtype != object:
        raise InputError(f"column {name!r} of {cells.source} holds {column.dtype.name}, where numbers are needed")
    codes, texts = distinct(column)
    numbers = [numerals.number(text) for text in texts]
    if None in numbers:
        bad = np.array([number is None for number in numbers])[codes]
        row = int(np.argmax(bad))
        raise InputError(
            f"column {name!r} has {column[row]!r} where a number is needed ({cells.where(row)}; {int(bad.sum())} such "
            "rows)",
            hint="leave the field empty where nothing was measured",
        )
    return np.array(numbers, dtype=np.float64)[codes]
