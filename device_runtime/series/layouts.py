"""The layout of a table, and the public layouts that are recognised as a whole: MIMIC, eICU, PhysioNet 2019."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from device_runtime.series.duration import UNITS_US, say_duration

ATTRIBUTES_OF_2019 = ("age", "gender", "unit1", "unit2", "hospadmtime")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How to read one kind of table: which column is what.

    In an event table each row is one measurement, named by ``name_column`` and worth ``value_column``; otherwise each
    signal is a column. ``part_column`` tells one patient's stays or records apart. ``step_us`` is how long 1 is in a
    timestamp column of plain numbers. ``timestamp_columns`` is empty where rows are steps in order. ``attributes``
    None means every column that is constant within each item.
    """

    name: str
    id_column: str | None
    timestamp_columns: tuple[str, ...]
    part_column: str | None = None
    name_column: str | None = None
    value_column: str | None = None
    unit_column: str | None = None
    flag_columns: tuple[str, ...] = ()  # obeyed: rows they call wrong are missing
    step_us: int | None = None
    interval_us: int | None = None
    attributes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Return the layout as JSON-ready values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the layout as text, one fact a line."""
        times = " and ".join(self.timestamp_columns) or "none: rows are steps, in their order"
        step = "" if self.step_us is None else f" (1 is {say_duration(self.step_us)} where it is a plain number)"
        facts = (
            ("layout", self.name),
            ("id", self.id_column or "none: one series"),
            ("stay or record", self.part_column),
            ("time", f"{times}{step}"),
            ("variable", self.name_column),
            ("value", self.value_column),
            ("unit", self.unit_column),
            ("flags", ", ".join(self.flag_columns)),
        )
        return [f"{what}: {said}" for what, said in facts if said]


def known_layout(names: Sequence[str]) -> Layout | None:
    """Return the public layout that these columns belong to, or None; capitals do not matter."""
    have = {name.casefold(): name for name in reversed(names)}
    if {"iculos", "hr", "o2sat"} <= set(have):
        return Layout(
            name="PhysioNet 2019",
            id_column=None,
            timestamp_columns=(have["iculos"],),
            step_us=UNITS_US["h"],
            interval_us=UNITS_US["h"],
            attributes=tuple(name for name in names if name.casefold() in ATTRIBUTES_OF_2019),
        )
    for kind, offset in (("vitalPeriodic", "observationoffset"), ("nurseCharting", "nursingchartoffset")):
        if {"patientunitstayid", offset} <= set(have):
            return _eicu(have, kind, offset)
    if {"subject_id", "charttime", "valuenum"} <= set(have) and have.keys() & {"itemid", "vital"}:
        stay = next((have[name] for name in ("stay_id", "icustay_id", "hadm_id") if name in have), None)
        return Layout(
            name="MIMIC events",
            id_column=have["subject_id"],
            part_column=stay,
            timestamp_columns=(have["charttime"],),
            name_column=have.get("itemid") or have["vital"],
            value_column=have["valuenum"],
            unit_column=have.get("valueuom"),
            attributes=(),
        )
    if {"admissionid", "itemid", "item", "value", "measuredat"} <= set(have):
        return Layout(
            name="AmsterdamUMCdb numericitems",
            id_column=have["admissionid"],
            timestamp_columns=(have["measuredat"],),
            name_column=have["item"],
            value_column=have["value"],
            unit_column=have.get("unit"),
            step_us=UNITS_US["ms"],
            attributes=(),
            notes=("admissionid is a stay: map it to the patient first if a patient may have several",),
        )
    return None


def _eicu(have: dict[str, str], kind: str, offset: str) -> Layout:
    if kind == "vitalPeriodic" and any(name.startswith("noninvasive") for name in have):
        kind = "vitalAperiodic"
    events = kind == "nurseCharting"
    return Layout(
        name=f"eICU {kind}",
        id_column=have["patientunitstayid"],
        timestamp_columns=(have[offset],),
        name_column=have.get("nursingchartcelltypevalname") if events else None,
        value_column=have.get("nursingchartvalue") if events else None,
        step_us=UNITS_US["min"],
        interval_us=UNITS_US["min"] * 5 if kind == "vitalPeriodic" else None,
        attributes=(),
        notes=("patientunitstayid is a stay: map it to the patient first if a patient may have several",),
    )
