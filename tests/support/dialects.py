"""One table of blood pressures, written in the dialects that files come in."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

HOUR_US = 3_600_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Dialect:
    """How a table is written; every field has many values, and all go together."""

    time: str
    id_column: str
    layout: str  # wide, long or events
    delimiter: str
    decimal: str
    encoding: str
    line_end: str
    order: str
    unit: str  # mmHg, or kPa in the column's name or a column of units
    missing: str  # blank, "NA", "0", or no row
    quote: bool
    capitals: str
    repeated: bool  # every tenth row twice


TIMES = (
    "iso", "iso_t", "minutes", "zulu", "offset", "basic_offset", "basic", "compact", "compact_s", "slashes",
    "unpadded", "german", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "date_and_time", "calendar", "hour",
    "sheet_days", "slashes_day_first", "time_of_day",
)  # fmt: skip
IDS = (
    "item_id", "unique_id", "patient", "Patient_ID", "PatientID", "patient no", "subject_id", "SUBJECT_ID", "id", "ID",
    "caseid", "case_id", "pid", "mrn", "MRN", "hadm_id", "stay_id", "icustay_id", "encounter_id", "device_id",
    "DeviceSerial", "bed", "Bed No", "record", "record_name", "participant", "person_id", "visit_id", "csn",
    "study_subject_id", "patientunitstayid", "monitor",
)  # fmt: skip
UNKNOWN_IDS = ("Zuordnung", "grp", "who")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "cp1252")


def stamps(form: str, moment: datetime, step: int) -> dict[str, str]:
    """Return the columns of one row's time."""
    local = moment + timedelta(hours=2)
    us = (moment - EPOCH) // timedelta(microseconds=1)
    forms = {
        "iso": f"{moment:%Y-%m-%d %H:%M:%S}",
        "iso_t": f"{moment:%Y-%m-%dT%H:%M:%S.000}",
        "minutes": f"{moment:%Y-%m-%d %H:%M}",
        "zulu": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "offset": f"{local:%Y-%m-%dT%H:%M:%S}+02:00",
        "basic_offset": f"{local:%Y%m%dT%H%M%S}+0200",
        "basic": f"{moment:%Y%m%dT%H%M}",
        "compact": f"{moment:%Y%m%d%H%M}",
        "compact_s": f"{moment:%Y%m%d%H%M%S}",
        "slashes": f"{moment:%Y/%m/%d %H:%M}",
        "unpadded": f"{moment.year}-{moment.month}-{moment.day} {moment.hour}:{moment.minute:02d}",
        "german": f"{moment:%d.%m.%Y %H:%M}",
        "epoch_s": str(us // 1_000_000),
        "epoch_ms": str(us // 1_000),
        "epoch_us": str(us),
        "epoch_ns": str(us * 1_000),
        "sheet_days": f"{25_569 + us / 86_400e6:.10f}",
        "slashes_day_first": f"{moment:%d/%m/%Y %H:%M}",
    }
    if form == "date_and_time":
        return {"date": f"{moment:%Y-%m-%d}", "time": f"{moment:%H:%M}"}
    if form == "calendar":
        return {"year": str(moment.year), "month": str(moment.month), "day": str(moment.day), "hour": str(moment.hour)}
    if form == "hour":
        return {"hour": str(step)}
    if form == "time_of_day":
        return {"time": f"{moment:%H:%M}"}
    return {"timestamp": forms[form]}


def write(truth: dict[str, np.ndarray], starts: dict[str, int], how: Dialect, draw: random.Random) -> bytes:
    """Write items ``[T]`` of MAP in mmHg, NaN for missing, whose first hours are ``starts`` since 2026-03-01."""
    rows: list[dict[str, str]] = []
    for item, values in truth.items():
        for step, value in enumerate(values):
            if np.isnan(value) and how.missing == "no row":
                continue
            moment = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=starts[item] + step)
            row = {how.id_column: item} | stamps(how.time, moment, starts[item] + step)
            rows.append(row | _value(value, how))
            if how.layout == "events":
                rows.append(
                    row
                    | {"variable": "HR", "value": _number(70 + step % 9 / 2, how.decimal)}
                    | ({"unit": "bpm"} if how.unit == "kPa column" else {})
                )
    if how.repeated:
        rows += rows[::10]
    if how.order == "newest first":
        rows.reverse()
    elif how.order == "shuffled":
        draw.shuffle(rows)
    names = list(rows[0])
    buffer = io.StringIO()
    writer = csv.writer(
        buffer,
        delimiter=how.delimiter,
        lineterminator=how.line_end,
        quoting=csv.QUOTE_ALL if how.quote else csv.QUOTE_MINIMAL,
    )
    writer.writerow([getattr(name, how.capitals)() if how.capitals else name for name in names])
    writer.writerows([[row[name] for name in names] for row in rows])
    return buffer.getvalue().encode(how.encoding)


def _value(value: float, how: Dialect) -> dict[str, str]:
    said = {"blank": "", "NA": "NA", "0": "0", "no row": ""}[how.missing]
    if not np.isnan(value):
        said = _number(value if how.unit == "mmHg" else value / 7.500617, how.decimal, 1 if how.unit == "mmHg" else 9)
    unit = {"unit": "kPa"} if how.unit == "kPa column" else {}
    named = " [kPa]" if how.unit == "kPa name" else ""
    if how.layout == "events":
        return {"variable": f"MAP{named}", "value": said} | unit
    if how.layout == "long":
        return {f"value{named}": said} | unit
    return {f"MAP{named}": said, "Temp (°C)": _number(36.6, how.decimal)} | unit


def _number(value: float, decimal: str, digits: int = 1) -> str:
    return f"{value:.{digits}f}".replace(".", decimal)
