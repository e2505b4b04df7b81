"""Which column of a table is what: as said by a person, as known of a public layout, or by the columns' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from device_runtime.errors import InputError
from device_runtime.series.cells import MISSING, Cells, distinct, listed, named_column
from device_runtime.series.duration import UNITS_US, say_duration
from device_runtime.series.options import ReadOptions
from device_runtime.series.signals import find_event
from device_runtime.series.times import time_columns
from device_runtime.series.units import find_unit
from device_runtime.series.words import (
    TIERS,
    TIMESTAMPS,
    UNITS,
    VALUES,
    VARIABLES,
    first_of,
    fold,
    id_tier,
    step_of,
)

ATTRIBUTES_OF_2019 = ("Age", "Gender", "Unit1", "Unit2", "HospAdmTime")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How to read one kind of table: which column is what.

    In an event table each row is one measurement, named by ``name_column`` and worth ``value_column``; otherwise each
    channel is a column. ``part_column`` tells one patient's stays or records apart. ``step_us`` is how long 1 is in a
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


def find_layout(cells: Cells, options: ReadOptions, known: Layout | None = None) -> Layout:
    """Say which column is what. Raises `InputError` when a named column is absent or no timestamp is found."""
    said = {
        option: None if name is None else named_column(cells.names, name, option=option, source=cells.source)
        for option, name in options.named().items()
    }
    layout = known or known_layout(cells.names)
    if layout is None or said["--variable-column"] or said["--value-column"]:
        layout = _guess(cells, layout, said)
    time = said["--timestamp-column"]
    if time is None and not layout.timestamp_columns:
        time = first_of(TIMESTAMPS, [name for name in cells.names if name != layout.value_column])
        if time is None and {"year", "month", "day"} <= {fold(name) for name in cells.names}:
            time = next(name for name in cells.names if fold(name) == "year")
    if time is not None:
        layout = replace(layout, timestamp_columns=time_columns(cells, time), step_us=step_of(time), interval_us=None)
    if not layout.timestamp_columns and not options.rows_are_steps:
        raise InputError(
            f"{cells.source} has no timestamp column (looked for {', '.join(TIMESTAMPS[:5])} ...)",
            hint=f"name it with --timestamp-column; its columns: {listed(cells.names)}",
        )
    if layout.step_us is None:
        layout = replace(layout, step_us=options.interval_us())
    if said["--unit-column"]:
        layout = replace(layout, unit_column=said["--unit-column"])
    if said["--id-column"]:
        part = layout.part_column if layout.part_column != said["--id-column"] else None
        return replace(layout, id_column=said["--id-column"], part_column=part)
    return layout if layout.id_column is not None else _with_id(cells, layout)


def id_columns(cells: Cells, used: Sequence[str | None] = ()) -> list[str]:
    """Return the columns whose name says that they are an id, the patient before the stay before the record.

    A column that is different in every row counts rows, and fractions are measurements.
    """
    ranked = [(TIERS.index(tier), name) for name in cells.names if (tier := id_tier(name)) and name not in used]
    return [name for _, name in sorted(ranked, key=lambda one: one[0]) if _may_be_id(cells, name)]


def _may_be_id(cells: Cells, name: str) -> bool:
    column = cells.columns[name]
    if column.dtype.kind == "M":
        return False
    count = len(distinct(column)[1])
    if count == cells.rows and cells.rows > 2:
        return False
    return column.dtype.kind != "f" or not (column % 1 > 0).any()


def _with_id(cells: Cells, layout: Layout) -> Layout:
    """Add the id, and the stay within it, to a layout that has none."""
    used = (*layout.timestamp_columns, layout.name_column, layout.value_column, layout.unit_column)
    found = id_columns(cells, used)
    if not found:
        return layout
    tiers = {name: id_tier(name) for name in found}
    part = layout.part_column
    if part is None and tiers[found[0]] in ("item", "patient", "generic"):
        stays = [name for name in found[1:] if tiers[name] == "stay"]
        part = next((name for name in stays if len(distinct(cells.columns[name])[1]) * 2 <= cells.rows), None)
    notes = layout.notes
    if len(found) > 1:
        notes = (*notes, f"id is {found[0]}, of {', '.join(found)}: another is taken with --id-column")
    return replace(layout, id_column=found[0], part_column=part, notes=notes)


def _guess(cells: Cells, known: Layout | None, said: dict[str, str | None]) -> Layout:
    """Recognise a layout by the columns' names, and by what is in the column of variables."""
    variable = said["--variable-column"] or (known.name_column if known else None) or _variable_column(cells)
    value = said["--value-column"] or (known.value_column if known else None)
    if value is None and variable:
        value = first_of(VALUES, [name for name in cells.names if name != variable])
    if variable and value is None:
        raise InputError(
            f"{cells.source}: column {variable!r} names variables, but which column holds their values?",
            hint=f"name it with --value-column; its columns: {listed(cells.names)}",
        )
    unit = first_of(UNITS, cells.names)
    if unit and not variable and not _all_units(cells, unit):
        unit = None
    if known is not None:
        return replace(known, name_column=variable, value_column=value, unit_column=known.unit_column or unit)
    return Layout(
        name="long events" if variable else "table",
        id_column=None,
        timestamp_columns=(),
        name_column=variable,
        value_column=value,
        unit_column=unit,
        attributes=() if variable else None,
    )


def _variable_column(cells: Cells) -> str | None:
    """Return the column that names what each row measured: a known name, beside a value, and words in it."""
    if first_of(VALUES, cells.names) is None:
        return None
    for word in VARIABLES:
        name = first_of((word,), cells.names)
        if name is None or cells.columns[name].dtype.kind in "fM":
            continue
        texts = [text for text in distinct(cells.texts(name))[1] if text.casefold() not in MISSING]
        if any(find_event(text) for text in texts):
            return name
        # A name that says it outright needs no known vital sign in it; a label may be 0 or 1, or "anomaly".
        plain = all(text.replace(".", "", 1).lstrip("+-").isdigit() for text in texts)
        if texts and not plain and word.startswith(("channel", "vital", "variable", "param", "signal")):
            return name
    return None


def _all_units(cells: Cells, name: str) -> bool:
    texts = distinct(cells.texts(name))[1]
    return all(text.casefold() in MISSING or find_unit(text) for text in texts) and any(map(find_unit, texts))


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
            attributes=tuple(name for name in names if name in ATTRIBUTES_OF_2019),
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
