"""A table as the rules see it: named columns of text or of plain arrays, and where each row came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.nearest import did_you_mean
from device_runtime.series.date_formats import DateFormat

Column = NDArray[Any]  # [R]: object (text, "" for an empty cell), float64 (NaN for none), int64 or datetime64[us]
_MISSING = frozenset(
    ("", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "-nan", "null", "(null)", "\\n", "none", "nat", "nd", "n/d",
     "missing", "#value!", "#div/0!", "#ref!", "#null!", "#num!", "#name?")
)  # fmt: skip
SOME = 64  # cells
_PLACEHOLDER = re.compile(r"[-–—_.*?#+/\s]+")  # what monitors show in place of a number: ---  -?-  ***


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """R rows under names; ``where`` says of a row (from 0) which file and line it came from."""

    source: str
    columns: Mapping[str, Column]
    rows: int
    where: Callable[[int], str]
    delimiter: str | None = None  # of text; None where columns have kinds of their own
    commas: bool = False  # some cell may hold a comma
    notes: tuple[str, ...] = ()
    first_cells: Callable[[str], Column] | None = None  # some of a column, where all of it is dear
    dates: DateFormat | None = None  # how a person said that dates are written; None: in a form that shows its order
    _texts: dict[str, NDArray[np.object_]] = field(default_factory=dict, init=False, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the file's order."""
        return tuple(self.columns)

    def is_text(self, name: str) -> bool:
        """Return whether a column holds text."""
        return self.columns[name].dtype == object

    def some(self, name: str) -> Column:
        """Return a few of a column's cells."""
        return self.columns[name][:SOME] if self.first_cells is None else self.first_cells(name)

    def texts(self, name: str) -> NDArray[np.object_]:
        """Return a column as text ``[R]``, blanks around it gone, ``""`` for an empty cell."""
        if name not in self._texts:
            self._texts[name] = self._as_texts(self.columns[name])
        return self._texts[name]

    @staticmethod
    def _as_texts(column: Column) -> NDArray[np.object_]:
        if column.dtype == object:
            return over_distinct(column, lambda cell: cell.strip())
        if column.dtype.kind == "f":
            whole = bool((np.isnan(column) | (column == np.round(column))).all())  # 10.0 is how a float column says 10
            return over_distinct(column, lambda cell: "" if np.isnan(cell) else f"{cell:.0f}" if whole else str(cell))
        if column.dtype.kind == "M":
            return over_distinct(column.astype("datetime64[us]"), lambda cell: "" if np.isnat(cell) else str(cell))
        return over_distinct(column, str)

    @property
    def date_form(self) -> re.Pattern[str] | None:
        """The one form of its times, where a person said how dates are written."""
        return None if self.dates is None else self.dates.form

    def keep(self, wanted: NDArray[np.bool_]) -> Cells:
        """Return the rows where ``wanted`` ``[R]`` is true."""
        places = np.flatnonzero(wanted)
        where = self.where
        return Cells(
            source=self.source,
            columns=_Kept(self.columns, places),
            rows=len(places),
            where=lambda row: where(int(places[row])),
            delimiter=self.delimiter,
            commas=self.commas,
            notes=self.notes,
            first_cells=self.first_cells,
            dates=self.dates,
        )


class _Kept(Mapping[str, Column]):
    """Some rows of every column, taken when a column is asked for."""

    def __init__(self, columns: Mapping[str, Column], places: NDArray[np.int64]) -> None:
        self._columns = columns
        self._places = places
        self._taken: dict[str, Column] = {}

    def __getitem__(self, name: str) -> Column:
        if name not in self._taken:
            self._taken[name] = self._columns[name][self._places]
        return self._taken[name]

    def __iter__(self) -> Any:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def distinct(column: Column) -> tuple[NDArray[np.int64], list[Any]]:
    """Return for each cell ``[R]`` which of the distinct ones it is, and those, in order of first appearance."""
    if column.dtype != object:
        values, first, codes = np.unique(column, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        return place[codes.reshape(-1)], list(values[order])
    cells = column.tolist()
    index = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
    return np.fromiter(map(index.__getitem__, cells), dtype=np.int64, count=len(cells)), list(index)


def over_distinct(column: Column, say: Callable[[Any], str]) -> NDArray[np.object_]:
    """Apply ``say`` to the distinct cells of a column and return its text for each cell, ``[R]``."""
    codes, cells = distinct(column)
    said = np.empty(len(cells), dtype=object)
    said[:] = [say(cell) for cell in cells]
    return said[codes] if len(cells) else np.empty(0, dtype=object)


def is_missing(text: str) -> bool:
    """Return whether a cell says that there is no value: empty, ``NA``, ``NULL``, ``---``, ``***``, ``#DIV/0!``."""
    said = text.strip().casefold()
    return said in _MISSING or _PLACEHOLDER.fullmatch(said) is not None


def named_column(names: Sequence[str], asked: str, *, option: str, source: str) -> str:
    """Return the column that a person named: exactly so, else whatever its capitals and blanks.

    Raises `InputError` when there is none, or two that differ only in that.
    """
    if asked in names:
        return asked
    same = [name for name in names if name.strip().casefold() == asked.strip().casefold()]
    same = same or [name for name in names if name.partition(" [")[0].casefold() == asked.strip().casefold()]
    if len(same) > 1:
        raise InputError(
            f"{source}: {option} {asked}: {' and '.join(map(repr, same))} differ only in capitals",
            hint="write it exactly as one of them",
        )
    if not same:
        raise InputError(
            f"{source} has no column {asked!r}", hint=f"{did_you_mean(asked, names)}its columns: {listed(names)}"
        )
    return same[0]


def listed(names: Sequence[object]) -> str:
    """Return the first few names as text for a hint."""
    shown = [str(name) for name in list(names)[:16]]
    return ", ".join(shown) + (" ..." if len(names) > 16 else "")
