"""One table of blood pressures, written in the dialects that files come in."""

from __future__ import annotations

import csv
import gzip
import io
import random
from dataclasses import dataclass, replace
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
    unit: str  # mmHg, or another one in the column's name, a column of units or a line of them
    missing: str  # blank, a word or a number for it, or no row
    quote: bool
    capitals: str
    repeated: bool  # every tenth row twice
    variable_column: str = "variable"  # of events
    before: str = ""  # lines before the header
    after: bool = False  # a sheet's empty rows at the end
    flag: str = ""  # a column that says of one row more of each item that it is wrong
    floats: bool = False  # ids as 101.0, or 101,0
    packed: bool = False  # gzip


TIMES = (
    "iso", "iso_t", "minutes", "zulu", "offset", "basic_offset", "basic", "compact", "compact_s", "slashes",
    "unpadded", "german", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "date_and_time", "calendar", "hour",
    "sheet_days", "slashes_day_first", "time_of_day", "am_pm", "month_name", "sas", "underscore", "chart_date_time",
    "date_hour", "midnight_and_time", "day_of_year", "day_hour", "elapsed",
)  # fmt: skip
IDS = (
    "item_id", "unique_id", "patient", "Patient_ID", "PatientID", "patient no", "subject_id", "SUBJECT_ID", "id", "ID",
    "caseid", "case_id", "pid", "mrn", "MRN", "hadm_id", "stay_id", "icustay_id", "encounter_id", "device_id",
    "DeviceSerial", "bed", "Bed No", "record", "record_name", "participant", "person_id", "visit_id", "csn",
    "study_subject_id", "patientunitstayid", "monitor", "Probanden-ID", "horse_id", "id_paciente", "Fallnummer",
)  # fmt: skip
STEPS = ("hour", "day_hour", "elapsed")  # times since a start
UNKNOWN_IDS = ("Zuordnung", "grp", "who")
MMHG = {"mmHg": 1.0, "kPa": 7.500617, "cmH2O": 0.7355592, "hPa": 0.7500617}
GOOD_BAD = {
    "error": ("0", "1"),
    "is_valid": ("TRUE", "FALSE"),
    "resultstatus": ("final", "cancelled"),
    "voided": ("", "Y"),
}
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
        "am_pm": f"{moment:%Y-%m-%d %I:%M %p}",
        "month_name": f"{moment:%d-%b-%Y %H:%M:%S}",
        "sas": f"{moment:%d%b%Y:%H:%M}",
        "underscore": f"{moment:%Y%m%d_%H%M%S}",
    }
    if form == "date_and_time":
        return {"date": f"{moment:%Y-%m-%d}", "time": f"{moment:%H:%M}"}
    if form == "calendar":
        return {"year": str(moment.year), "month": str(moment.month), "day": str(moment.day), "hour": str(moment.hour)}
    if form == "chart_date_time":
        return {"chart_date": f"{moment:%Y-%m-%d}", "chart_time": f"{moment:%H:%M}"}
    if form == "date_hour":
        return {"date": f"{moment:%d.%m.%Y}", "hour": str(moment.hour)}
    if form == "midnight_and_time":
        return {"date": f"{moment:%Y-%m-%d} 00:00:00", "time": f"{moment:%I:%M %p}"}
    if form == "day_of_year":
        return {"year": str(moment.year), "doy": f"{moment:%j}", "hour": str(moment.hour)}
    if form == "day_hour":
        return {"day": str(step // 24), "hour": str(step % 24)}
    if form == "elapsed":
        return {"elapsed": f"{step}:00:00"}
    if form == "hour":
        return {"hour": str(step)}
    if form == "time_of_day":
        return {"time": f"{moment:%H:%M}"}
    return {"timestamp": forms[form]}


def write(truth: dict[str, np.ndarray], starts: dict[str, int], how: Dialect, draw: random.Random) -> bytes:
    """Write items ``[T]`` of MAP in mmHg, NaN for missing, whose first hours are ``starts`` since 2026-03-01."""
    if how.unit == "kPa line" and how.layout != "wide":  # such a line is of tables that have a column each
        how = replace(how, unit="mmHg")
    rows: list[dict[str, str]] = []
    for item, values in truth.items():
        for step, value in enumerate(values):
            if np.isnan(value) and how.missing == "no row":
                continue
            moment = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=starts[item] + step)
            row = {how.id_column: f"{item}{how.decimal}0" if how.floats else item} | stamps(
                how.time, moment, starts[item] + step
            )
            rows.append(row | _value(value, how) | ({how.flag: GOOD_BAD[how.flag][0]} if how.flag else {}))
            if how.flag and step == 3:
                rows.append(row | _value(np.float32(211.5), how) | {how.flag: GOOD_BAD[how.flag][1]})
            if how.layout == "events":
                rows.append(
                    row
                    | {how.variable_column: "HR", "value": _number(70 + step % 9 / 2, how.decimal)}
                    | ({"unit": "bpm"} if how.unit == "kPa column" else {})
                    | ({how.flag: GOOD_BAD[how.flag][0]} if how.flag else {})
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
    buffer.write(how.before.replace("\n", how.line_end))
    writer.writerow([getattr(name, how.capitals)() if how.capitals else name for name in names])
    if how.unit == "kPa line":
        writer.writerow(["kPa" if name == "MAP" else "" for name in names])
    writer.writerows([[row[name] for name in names] for row in rows])
    if how.after:
        buffer.write((how.delimiter * (len(names) - 1) + how.line_end) * 2)
    data = buffer.getvalue().encode(how.encoding)
    return gzip.compress(data, mtime=0) if how.packed else data


def _value(value: float, how: Dialect) -> dict[str, str]:
    said = "" if how.missing in ("blank", "no row") else how.missing
    if not np.isnan(value):
        said = _number(value / MMHG[how.unit.split()[0]], how.decimal, 1 if how.unit == "mmHg" else 9)
    unit = {"unit": "kPa"} if how.unit == "kPa column" else {}
    named = f" [{how.unit.split()[0]}]" if how.unit.endswith(" name") else ""
    if how.layout == "events":
        return {how.variable_column: f"MAP{named}", "value": said} | unit
    if how.layout == "long":
        return {f"value{named}": said} | unit
    return {f"MAP{named}": said, "Temp (°C)": _number(36.6, how.decimal)} | unit


def _number(value: float, decimal: str, digits: int = 1) -> str:
    return f"{value:.{digits}f}".replace(".", decimal)
