"""Recordings as one table: the patient of each, the patient's attributes, and the number of the recording."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from edge_tsfm.data.layouts import Layout
from edge_tsfm.data.tables import Table

_AGE = re.compile(r"(?:<age>|age)\W+(\d+(?:\.\d+)?)", re.IGNORECASE)
_SEX = re.compile(r"(?:<sex>|<gender>|sex|gender)\W+([FM])\b", re.IGNORECASE)


def about(text: str) -> dict[str, Any]:
    """Return what a text says of a recording's patient: ``age`` (NaN for none) and ``sex`` (F, M or None)."""
    age, sex = _AGE.search(text), _SEX.search(text)
    return {"age": float(age[1]) if age else np.nan, "sex": sex[1].upper() if sex else None}


def table_of(
    frames: Sequence[pd.DataFrame],
    *,
    source: Path,
    name: str,
    where: Callable[[int], str],
    timestamp_column: str,
    step_us: int | None = None,
    unit_column: str | None = None,
    attributes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Table:
    """Lay recordings end to end; each frame has ``item_id``, ``record``, ``age`` and ``sex`` beside its values."""
    return Table(
        source=source,
        frame=pd.concat(frames, ignore_index=True),
        where=where,
        layout=Layout(
            name=name,
            id_column="item_id",
            part_column="record",
            timestamp_columns=(timestamp_column,),
            unit_column=unit_column,
            step_us=step_us,
            attributes=("age", "sex", *attributes),
        ),
        notes=notes,
    )
