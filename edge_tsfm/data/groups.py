"""The groups of a table's rows by a column: wards, beds, kinds of monitor, each read as data of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from device_runtime.series.cells import distinct, is_missing, named_column
from edge_tsfm.data.frames import cells_of
from edge_tsfm.data.options import DataOptions
from edge_tsfm.data.read import Opened
from edge_tsfm.errors import DataError, as_data_errors

LONGEST = 60  # characters of a folder's name
MOST = 10_000  # groups
FEW = 4  # rows of a group on average: a column with fewer is a time or a value, and no group a series
DIGITS = 6  # of a digest, in hex


@dataclass(frozen=True, kw_only=True)
class Group:
    """One value of the column; ``options`` read its rows and no others, as ``--where COLUMN=VALUE`` does."""

    name: str
    folder: str
    options: DataOptions


@dataclass(frozen=True, kw_only=True)
class Groups:
    """All groups of a table by ``column``, by value; ``rows_without`` have none."""

    column: str
    groups: tuple[Group, ...]
    rows_without: int


def find_groups(opened: Opened, column: str, options: DataOptions) -> Groups:
    """Find the distinct values of ``column`` among the rows that ``options`` keep.

    Numbers that are equal are one value (``1`` and ``1.0``), as for ``--where``. Raises `DataError` for an unknown
    column, for one without values or with more than `MOST`, and for one that differs in nearly every row.
    """
    cells = cells_of(opened.table, opened.columns)
    with as_data_errors():
        name = named_column(cells.names, column.strip(), option="--group-by", source=cells.source)
        codes, texts = distinct(cells.texts(name))
    values = {text: _number(text) for text in texts if not is_missing(text)}
    own = [one for one in options.where if one.partition("=")[0].strip().casefold() == name.casefold()]
    wanted = [one.partition("=")[2].strip() for one in own]
    found: dict[str | float, str] = {}
    for text, value in values.items():
        if not own or any(value == _number(one) for one in wanted):
            found.setdefault(value, text)
    if not found:
        raise DataError(f"{cells.source}: column {name} has no value to group by", hint="name another column")
    if len(found) > MOST:
        raise DataError(
            f"{cells.source}: column {name} has {len(found):,} values: want at most {MOST:,} groups",
            hint="group by a column such as ward, bed or monitor",
        )
    if len(found) * FEW > len(codes):
        raise DataError(
            f"{cells.source}: column {name} has {len(found):,} values in {len(codes):,} rows: a time or a measurement, "
            "not a group",
            hint="group by a column such as ward, bed or monitor",
        )
    without = {code for code, text in enumerate(texts) if is_missing(text)}
    names = sorted(found.values(), key=lambda text: (str(type(values[text])), values[text]))
    others = tuple(one for one in options.where if one not in own)
    return Groups(
        column=name,
        groups=tuple(
            Group(name=one, folder=folder, options=replace(options, where=(*others, f"{name}={one}")))
            for one, folder in zip(names, folders_of(names), strict=True)
        ),
        rows_without=int(sum((codes == code).sum() for code in without)),
    )


def folders_of(names: Sequence[str]) -> list[str]:
    """Return a folder's name for each group: its own where every file system takes it, else with a digest behind."""
    plain = [re.sub(r"[^\w.-]+", "_", name)[:LONGEST].lstrip("._-") for name in names]
    folded = [one.casefold() for one in plain]
    return [
        one if one == name and folded.count(one.casefold()) == 1 else f"{one or 'group'}-{_digest(name)}"
        for one, name in zip(plain, names, strict=True)
    ]


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:DIGITS]


def _number(text: str) -> str | float:
    """Return a number for text that is one."""
    try:
        return float(text)
    except ValueError:
        return text
