"""Columns that flag rows as valid or not: errors, validity, status, quality. Known words only; each use is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, distinct, is_missing, named_column
from device_runtime.series.words import fold

_YES = "1 true yes y t ja oui si sí"
_NO = "0 false no n f nein non"
_GOOD_WORDS = "good ok okay valid normal pass passed accepted final amended corrected preliminary registered active"
_BAD_WORDS = (
    "bad poor invalid error enteredinerror cancelled canceled rejected artifact artefact fail failed unreliable "
    "deleted unknown nosignal leadoff retracted voided wrong"
)
# Column -> (cells that keep a row, cells that take it out); a column with any other cell is no flag.
_ERROR = (_NO, _YES)
_VALID = (f"{_YES} {_GOOD_WORDS}", f"{_NO} {_BAD_WORDS}")
_WORDS = (_GOOD_WORDS, _BAD_WORDS)
FLAGS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = MappingProxyType(
    {
        name: (frozenset(keep.split()), frozenset(drop.split()))
        for names, (keep, drop) in (
            ("error errorflag iserror inerror haserror enteredinerror chartedinerror invalid isinvalid artifact "
             "artefact isartifact isartefact artifactflag artefactflag artifactual artefactual deleted isdeleted "
             "cancelled canceled rejected isrejected exclude excluded voided void isvoid retracted isretracted bad "
             "isbad badquality outlier isoutlier suspect leadoff leadsoff sensoroff probeoff disconnected noisy "
             "unusable unreliable fehler ungültig", _ERROR),
            ("valid isvalid validity validflag accepted isaccepted accept usable isusable reliable isreliable gültig",
             _VALID),
            ("status observationstatus recordstatus resultstatus valuestatus measurementstatus datastatus "
             "readingstatus quality signalquality dataquality qualityflag qualitycode qc qcflag qcstatus flag flags",
             _WORDS),
        )
        for name in names.split()
    }
)  # fmt: skip


def is_flag_word(text: str) -> bool:
    """Return whether a cell says that a row is good, bad, normal or an anomaly."""
    return fold(text) in frozenset(
        f"{_YES} {_NO} {_GOOD_WORDS} {_BAD_WORDS} anomaly anomalous abnormal outlier".split()
    )


def flagged(
    cells: Cells, target: str, used: Sequence[str | None]
) -> tuple[NDArray[np.bool_], tuple[str, ...], tuple[str, ...]]:
    """Return which rows ``[R]`` a known flag takes out, the flags obeyed, and what to say of those that are not.

    MIMIC's ``error`` is 1 where a value was charted in error; its ``warning`` takes nothing out. ``MAP_valid`` is a
    flag of column ``target`` if that is called MAP, and of no other.
    """
    out = np.zeros(cells.rows, dtype=bool)
    obeyed: list[str] = []
    notes: list[str] = []
    own = fold(target)
    for name in cells.names:
        folded = fold(name)
        words = FLAGS.get(folded)
        if words is None and own and own in folded:
            words = FLAGS.get(folded.removeprefix(own)) or FLAGS.get(folded.removesuffix(own))
        if words is None or name in used:
            continue
        codes, texts = distinct(cells.texts(name))
        kinds = [_kind(text, *words) for text in texts]
        if None in kinds:
            strange = texts[kinds.index(None)]
            notes.append(f"column {name} is not used as a flag: {strange!r} says neither good nor bad")
            continue
        out |= np.array(kinds, dtype=bool)[codes]
        obeyed.append(name)
    return out, tuple(obeyed), tuple(notes)


def _kind(text: str, keep: frozenset[str], drop: frozenset[str]) -> bool | None:
    """Return whether a cell removes its row; None if it is not a flag's. An empty one keeps it."""
    word = fold(text.removesuffix(".0"))
    if is_missing(text) or word in keep:
        return False
    return True if word in drop else None


def where_rows(cells: Cells, conditions: Sequence[str]) -> NDArray[np.bool_]:
    """Return which rows ``[R]`` meet every ``COLUMN=VALUE``; of several with one column, one is enough.

    Values are compared as text without the blanks around it, or as numbers (``1`` is ``1.0``). Raises `InputError`
    for a condition of another form, an unknown column, or one that no row meets.
    """
    wanted: dict[str, list[str]] = {}
    for condition in conditions:
        name, mark, value = condition.partition("=")
        if not mark or not name.strip():
            raise InputError(f"--where {condition}: want COLUMN=VALUE", hint="such as --where unit=MICU")
        column = named_column(cells.names, name.strip(), option="--where", source=cells.source)
        wanted.setdefault(column, []).append(value.strip())
    kept = np.ones(cells.rows, dtype=bool)
    for name, values in wanted.items():
        codes, texts = distinct(cells.texts(name))
        meets = np.array([any(_same(text, value) for value in values) for text in texts], dtype=bool)
        if not meets.any():
            shown = ", ".join(sorted(texts)[:8])
            raise InputError(f"{cells.source}: no row has {name}={' or '.join(values)}", hint=f"it has: {shown}")
        kept &= meets[codes]
    if not kept.any():
        raise InputError(f"{cells.source}: no row meets {' and '.join(conditions)} together")
    return kept


def _same(text: str, value: str) -> bool:
    if text == value:
        return True
    try:
        return float(text) == float(value)
    except ValueError:
        return False
