"""Known shapes of tables, so that a familiar file needs no options."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

ID_COLUMNS = (
    "item_id",
    "unique_id",
    "patient",
    "patient_id",
    "subject_id",
    "stay_id",
    "icustay_id",
    "series_id",
)
TIMESTAMP_COLUMNS = (
    "timestamp", "ds", "datetime", "date", "charttime", "time", "minute", "minutes", "hour", "hours",
    "second", "seconds", "time [s]", "step",
)  # fmt: skip
VALUE_COLUMNS = ("target", "y", "value")
# A column of plain numbers whose name says how long one of them is.
STEPS = {
    "minute": "1min", "minutes": "1min", "hour": "1h", "hours": "1h", "second": "1s", "seconds": "1s",
    "time [s]": "1s", "iculos": "1h", "observationoffset": "1min",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How to read one kind of table: which column is what.

    In an event table each row is one measurement, named by ``name_column`` and worth ``value_column``;
    otherwise each channel is a column. ``part_column`` tells one patient's stays or records apart. ``step``
    is how long 1 is in a timestamp column of plain numbers. ``attributes`` None means every column that is
    constant within each item.
    """

    name: str
    id_column: str | None
    timestamp_column: str
    part_column: str | None = None
    name_column: str | None = None
    value_column: str | None = None
    unit_column: str | None = None
    step: pd.Timedelta | None = None
    interval: pd.Timedelta | None = None
    attributes: tuple[str, ...] | None = None
    note: str | None = None


def known_layout(columns: Sequence[str]) -> Layout | None:
    """Return the public layout that these columns belong to, or None."""
    have = set(columns)
    if {"ICULOS", "HR", "O2Sat"} <= have:
        return Layout(
            name="PhysioNet 2019",
            id_column=next((name for name in ID_COLUMNS if name in have), None),
            timestamp_column="ICULOS",
            step=pd.Timedelta("1h"),
            interval=pd.Timedelta("1h"),
            attributes=tuple(n for n in ("Age", "Gender", "Unit1", "Unit2", "HospAdmTime") if n in have),
        )
    if {"patientunitstayid", "observationoffset"} <= have:
        return Layout(
            name="eICU vitalPeriodic",
            id_column="patientunitstayid",
            timestamp_column="observationoffset",
            step=pd.Timedelta("1min"),
            interval=pd.Timedelta("5min"),
            attributes=(),
            note="patientunitstayid is a stay: map it to the patient first if a patient may have several",
        )
    if {"subject_id", "charttime", "valuenum"} <= have and have & {"itemid", "vital"}:
        return Layout(
            name="MIMIC events",
            id_column="subject_id",
            part_column=next((name for name in ("stay_id", "icustay_id", "hadm_id") if name in have), None),
            timestamp_column="charttime",
            name_column="itemid" if "itemid" in have else "vital",
            value_column="valuenum",
            unit_column="valueuom" if "valueuom" in have else None,
            attributes=(),
        )
    return None


def first_present(candidates: Sequence[str], columns: Sequence[str]) -> str | None:
    """Return the first candidate among the columns, whatever its capitals."""
    folded = {name.strip().casefold(): name for name in reversed(columns)}
    return next((folded[name] for name in candidates if name in folded), None)
