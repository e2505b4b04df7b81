"""Bedside recordings, one file a recording: WFDB numerics and the BIDMC CSV numerics."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from device_runtime.series.signals import rank_of_name
from edge_tsfm.data.channels import find_channel
from edge_tsfm.data.layouts import Layout
from edge_tsfm.data.tables import Table, read_table
from edge_tsfm.errors import DataError

# A numeric comes once a second or once a minute; anything faster is a waveform.
MAX_NUMERIC_HZ = 4.0
_PATIENT = re.compile(r"^([sp]\d+)-")  # MIMIC matched records: patient, date, time
_AGE = re.compile(r"(?:<age>|age)\W+(\d+(?:\.\d+)?)", re.IGNORECASE)
_SEX = re.compile(r"(?:<sex>|<gender>|sex|gender)\W+([FM])\b", re.IGNORECASE)
_BIDMC_PATIENT = re.compile(r"^MIMIC II matched wdb ID:\s*(\S+)", re.MULTILINE)


def read_wfdb(headers: Sequence[Path], *, source: Path, target: str | None) -> Table:
    """Read the ``target`` signal of WFDB numerics; records without it, and waveforms, are left out and noted.

    A record ``s00001-2896-10-10-00-31n`` belongs to patient ``s00001``. Zeros mean "not measured" and become
    missing with the other values <= 0. Raises `DataError` when no record holds the signal or a file is
    damaged.
    """
    import wfdb

    if target is None:
        raise DataError(f"{source}: which signal is the target?", hint="name it with --target, such as --target HR")
    frames: list[pd.DataFrame] = []
    without: list[str] = []
    for path in headers:
        name = str(path.with_suffix(""))
        try:
            header = wfdb.rdheader(name)
        except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is not a WFDB header: {error}") from error
        signal = _signal(target, header.sig_name or [])
        if signal is None or header.fs > MAX_NUMERIC_HZ:
            without.append(path.stem)
            continue
        try:
            record = wfdb.rdrecord(name, channel_names=[signal])
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise DataError(f"{path}: its samples cannot be read: {error}") from error
        frames.append(_record_frame(path, record, target))
    if not frames:
        raise DataError(f"{source}: no numerics record has a signal {target!r}", hint="its names are in the .hea files")
    notes = (f"{len(without)} records without {target} left out: {', '.join(without[:5])}",) if without else ()
    return Table(
        source=source,
        frame=pd.concat(frames, ignore_index=True),
        where=lambda row: f"{source}, sample {row}",
        layout=Layout(
            name="WFDB numerics",
            id_column="item_id",
            part_column="record",
            timestamp_columns=("timestamp",),
            unit_column="unit",
            attributes=("age", "sex", "signal"),
        ),
        notes=notes,
    )


def _signal(target: str, names: Sequence[str]) -> str | None:
    """Return the record's signal for ``target``: its own name, else the channel's names, preferred first."""
    if target in names:
        return target
    channel = find_channel(target)
    same = [name for name in names if channel is not None and find_channel(name) is channel]
    return min(same, key=rank_of_name, default=None)


def _record_frame(path: Path, record: object, target: str) -> pd.DataFrame:
    values = record.p_signal[:, 0]  # type: ignore[attr-defined]  # wfdb ships no types
    step_us = round(1e6 / float(record.fs))  # type: ignore[attr-defined]
    begin = record.base_datetime or pd.Timestamp(0)  # type: ignore[attr-defined]
    comments = " ".join(record.comments)  # type: ignore[attr-defined]
    patient = _PATIENT.match(path.stem)
    age, sex = _AGE.search(comments), _SEX.search(comments)
    return pd.DataFrame(
        {
            "item_id": patient[1] if patient else path.stem.removesuffix("n"),
            "record": path.stem,
            "timestamp": np.datetime64(begin, "us") + (step_us * np.arange(len(values))).astype("timedelta64[us]"),
            target: values,
            "signal": record.sig_name[0],  # type: ignore[attr-defined]
            "unit": record.units[0],  # type: ignore[attr-defined]
            "age": float(age[1]) if age else np.nan,
            "sex": sex[1].upper() if sex else None,
        }
    )


def read_bidmc_folder(files: Sequence[Path], *, source: Path) -> Table:
    """Read ``bidmc_##_Numerics.csv``; the patient is the MIMIC II id in ``bidmc_##_Fix.txt``, not the record.

    Raises `DataError` when a record's Fix file or the id in it is missing.
    """
    frames: list[pd.DataFrame] = []
    for file in files:
        record = file.name.removesuffix("_Numerics.csv")
        fix = file.with_name(f"{record}_Fix.txt")
        try:
            text = fix.read_text("utf-8")
        except OSError as error:
            raise DataError(f"{file} has no {fix.name} beside it, which names its patient") from error
        patient = _BIDMC_PATIENT.search(text)
        if patient is None:
            raise DataError(f"{fix} does not name the patient ('MIMIC II matched wdb ID: ...')")
        age, sex = _AGE.search(text), _SEX.search(text)
        frames.append(
            read_table(file).frame.assign(
                item_id=patient[1],
                record=record,
                age=float(age[1]) if age else np.nan,
                sex=sex[1] if sex else None,
            )
        )
    return Table(
        source=source,
        frame=pd.concat(frames, ignore_index=True),
        where=lambda row: f"{source}, row {row + 1} of all records",
        layout=Layout(
            name="BIDMC numerics",
            id_column="item_id",
            part_column="record",
            timestamp_columns=("Time [s]",),
            step_us=1_000_000,
            attributes=("age", "sex"),
        ),
    )
