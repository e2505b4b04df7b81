"""Which rows belong to which item: parts of a table by id and stay, and what to do if there is no id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct, over_distinct

# Rows of one time that disagree about it, as a share of the observed ones: more are two patients under one name.
MAX_CONFLICTS = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """A part is one stay or record of one patient; P of them, in order of their ids."""

    item_ids: tuple[str, ...]  # [P]
    names: tuple[str, ...]  # [P], of the stay or record; "" where there is none
    part: NDArray[np.int64]  # [R]


def take_ids(cells: Cells, id_column: str | None, otherwise: str) -> NDArray[np.object_]:
    """Return each row's id ``[R]``; without an id column all rows are ``otherwise``'s.

    Ids are text: ``007`` is not ``7``, ``NA`` is an id. Only where every one is written as a float (``10.0``) does it
    lose its ``.0``. Raises `InputError` for an empty one, or for one number written in both ways.
    """
    if id_column is None:
        return np.full(cells.rows, otherwise, dtype=object)
    ids = cells.texts(id_column)
    if (empty := ids == "").any():
        raise InputError(
            f"column {id_column!r} is empty ({cells.where(int(np.argmax(empty)))}; {int(empty.sum())} such rows)",
            hint="write the id in every row: cells merged in a spreadsheet are empty below the first",
        )
    return _whole_numbers(ids, id_column, cells.source)


def take_parts(cells: Cells, ids: NDArray[np.object_], part_column: str | None) -> Parts:
    """Return each row's part: its id ``[R]``, and where there is such a column its stay or record."""
    code, order = _sorted(ids)
    if part_column is None:
        return Parts(item_ids=tuple(order), names=("",) * len(order), part=code)
    stay, stay_order = _sorted(_whole_numbers(cells.texts(part_column), part_column, cells.source))
    both, part = np.unique(code * len(stay_order) + stay, return_inverse=True)
    return Parts(
        item_ids=tuple(order[one // len(stay_order)] for one in both),
        names=tuple(stay_order[one % len(stay_order)] for one in both),
        part=part.reshape(-1).astype(np.int64),
    )


def _sorted(texts: NDArray[np.object_]) -> tuple[NDArray[np.int64], list[str]]:
    codes, names = distinct(texts)
    order = sorted(names)
    place = {name: at for at, name in enumerate(order)}
    return np.array([place[name] for name in names], dtype=np.int64)[codes], order


def _whole_numbers(texts: NDArray[np.object_], column: str, source: str) -> NDArray[np.object_]:
    """Return ids that were written as floats as whole numbers; raises `InputError` where only some were."""
    names = distinct(texts)[1]
    floats = {name[:-2]: name for name in names if name.endswith((".0", ",0")) and name[:-2].lstrip("-").isdigit()}
    if len(floats) == sum(name != "" for name in names):
        return over_distinct(texts, lambda name: name[:-2])
    both = sorted(floats.keys() & set(names))
    if both:
        raise InputError(
            f"{source}: column {column!r} has {both[0]!r} and {floats[both[0]]!r}: one id or two?",
            hint="write the ids in one way",
        )
    return texts


def refuse_conflicts(
    cells: Cells, id_column: str | None, conflicts: int, observed: int, candidates: list[tuple[str, int]], first: int
) -> InputError:
    """Return the error of too many rows of one time that disagree, naming what could be the id."""
    said = ", ".join(f"{name} ({count} distinct)" for name, count in candidates)
    whose = "no id column is known" if id_column is None else f"within one {id_column}"
    return InputError(
        f"{cells.source}: {conflicts:,} of {observed:,} values are of a time that has another value, {whose} "
        f"(such as {cells.where(first)})",
        hint=(f"is it {said}? name it with --id-column" if said else "name the patient's column with --id-column")
        + "; or say what becomes of them: --duplicates mean, last or median",
    )
