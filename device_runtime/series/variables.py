"""Which column of a table names what each row measured, and which one holds units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct, is_missing, listed
from device_runtime.series.flags import is_flag_word
from device_runtime.series.signals import find_event, find_signal
from device_runtime.series.units import find_unit
from device_runtime.series.words import CERTAIN_UNITS, MAYBE_VARIABLES, VALUES, VARIABLES, first_of, fold

SAMPLE = 2_000  # rows looked at before a whole column is


def variable_column(cells: Cells) -> str | None:
    """Return the column that names what each row measured, beside one of values: by its name or by its cells.

    A name that says it outright (``parameter``) needs no known vital sign in it; ``label`` and ``code`` do. Whatever
    its name, a column of text that names two vital signs is one.
    """
    if first_of(VALUES, cells.names) is None:
        return None
    for word in VARIABLES:
        name = first_of((word,), cells.names)
        if name is None or cells.columns[name].dtype.kind in "fM":
            continue
        texts = [text for text in distinct(cells.texts(name))[1] if not is_missing(text)]
        if any(find_event(text) for text in texts):
            return name
        if texts and not all(map(_is_number, texts)) and word.startswith(("channel", "vital", "variable", "param")):
            return name
    return next((name for name in cells.names if _names_signals(cells, name)), None)


def _names_signals(cells: Cells, name: str) -> bool:
    """Return whether a column of text names two vital signs or more."""
    if not cells.is_text(name):
        return False
    sample = cells.columns[name][:: max(1, cells.rows // SAMPLE)]
    if not any(find_signal(text) for text in set(sample.tolist())):
        return False
    found = {signal.name for text in distinct(cells.texts(name))[1] if (signal := find_signal(text))}
    return len(found) > 1


def refuse_other_names(cells: Cells, id_column: str | None, value: str) -> None:
    """Refuse a column of values beside one that most likely names what they are, in words not known here."""
    for word in (*VARIABLES, *MAYBE_VARIABLES):
        name = first_of((word,), cells.names)
        if name is None or name in (id_column, value) or not cells.is_text(name):
            continue
        codes, texts = distinct(cells.texts(name))
        words = [text for text in texts if not is_missing(text)]
        if len(words) < 2 or any(map(_is_number, words)) or all(map(is_flag_word, words)):
            continue
        if not _changes_within(cells, codes, id_column):
            continue
        raise InputError(
            f"{cells.source}: column {name!r} may name what each row measured, in words that are no vital sign known "
            f"here: {listed(words[:8])}",
            hint=f"say --variable-column {name} and one of its words as --target; if it names nothing of that kind, "
            f"--value-column {value}",
        )


def _changes_within(cells: Cells, codes: NDArray[np.int64], id_column: str | None) -> bool:
    if id_column is None:
        return True
    ids = distinct(cells.texts(id_column))[0]
    return len(np.unique(ids * (int(codes.max()) + 1) + codes)) > len(np.unique(ids))


def holds_units(cells: Cells, name: str) -> bool:
    """Say whether a column holds units: its name leaves no doubt, or all its cells are some; a ward's name is none."""
    texts = [text for text in distinct(cells.texts(name))[1] if not is_missing(text)]
    if fold(name) in CERTAIN_UNITS:
        return bool(texts)
    return bool(texts) and all(map(find_unit, texts))


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).lstrip("+-").isdigit()
