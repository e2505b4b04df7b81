"""WFDB numerics: one record a file or, of a record in segments, one for all of them, in time order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from device_runtime.series.signals import find_signal, rank_of_name
from edge_tsfm.data.names import stem
from edge_tsfm.data.recordings import about, table_of
from edge_tsfm.data.tables import Table
from edge_tsfm.errors import DataError

# A numeric comes once a second or once a minute; anything faster is a waveform.
MAX_NUMERIC_HZ = 4.0
GAP = "~"  # a segment in which nothing was recorded
_SUBJECT = re.compile(r"\bsubject_id\W+(\w+)", re.IGNORECASE)
_PATIENT = re.compile(r"^([sp]\d+)-")  # MIMIC matched records: patient, date, time
_SEGMENT = re.compile(r"^(.+)_\d{4}$")  # a segment whose record is not here
_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError)


@dataclass(frozen=True)
class _Header:
    """A record's header and its segments', gaps and the layout left out of the latter."""

    path: Path
    master: Any  # wfdb ships no types
    segments: tuple[tuple[Any, int, int], ...]  # header, first frame, frames

    @property
    def signals(self) -> list[str]:
        """The names of all signals of all segments."""
        return list(dict.fromkeys(name for header, _, _ in self.segments for name in header.sig_name or ()))


def read_wfdb(headers: Sequence[Path], *, source: Path, target: str | None) -> Table:
    """Read the ``target`` signal of WFDB numerics; records without it, and waveforms, are left out and noted.

    A record in segments (of fixed or variable layout, with gaps) is one record; its segments are none of their own. A
    record belongs to the ``subject_id`` of its header; else ``s00001-2896-10-10-00-31n`` is of patient ``s00001``.
    Zeros mean "not measured" and become missing with the other values <= 0. Raises `DataError` when no record holds
    the signal or a file is damaged.
    """
    if target is None:
        raise DataError(f"{source}: which signal is the target?", hint="name it with --target, such as --target HR")
    parsed = {path: _read_header(path) for path in headers}
    segments = {
        path.parent / name for path, header in parsed.items() for name in getattr(header, "seg_name", None) or ()
    }
    frames: list[pd.DataFrame] = []
    without: list[str] = []
    for path, master in parsed.items():
        if path.with_suffix("") in segments:
            continue
        record = _with_segments(path, master)
        signal = _signal(target, record.signals)
        frame = None if signal is None else _frame(record, signal, target)
        if frame is None:
            without.append(path.stem)
        else:
            frames.append(frame)
    if not frames:
        raise DataError(f"{source}: no numerics record has a signal {target!r}", hint="its names are in the .hea files")
    notes = (f"{len(without)} records without {target} left out: {', '.join(without[:5])}",) if without else ()
    return table_of(
        frames,
        source=source,
        name="WFDB numerics",
        where=lambda row: f"{source}, sample {row}",
        timestamp_column="timestamp",
        unit_column="unit",
        attributes=("signal",),
        notes=notes,
    )


def _read_header(path: Path) -> Any:
    """Read one header, a record's or a segment's."""
    import wfdb

    try:
        return wfdb.rdheader(str(path.with_suffix("")))
    except _UNREADABLE as error:
        raise DataError(f"{path} is not a WFDB header: {error}") from error


def _with_segments(path: Path, master: Any) -> _Header:
    """Read the headers of a record's segments; of a record that has none, the record is its own."""
    if not hasattr(master, "seg_name"):
        return _Header(path, master, ((master, 0, master.sig_len),))
    found = []
    begin = 0
    for name, length in zip(master.seg_name, master.seg_len, strict=True):
        if name != GAP and length:  # the first of a variable layout has no length: it only lists signals
            segment = _read_header(path.parent / f"{name}.hea")
            if not np.isclose(segment.fs, master.fs, rtol=1e-6) or segment.sig_len not in (length, None):
                raise DataError(
                    f"{path}: segment {name} has {segment.sig_len} frames at {segment.fs:g} Hz, the record says "
                    f"{length} at {master.fs:g} Hz: when the next one begins is not known",
                    hint="give the segments' own .hea files, or correct the header",
                )
            found.append((segment, begin, length))
        begin += length
    return _Header(path, master, tuple(found))


def _signal(target: str, names: Sequence[str]) -> str | None:
    """Return the record's signal for ``target``: its own name, else one of the vital sign's, preferred first."""
    if target in names:
        return target
    known = find_signal(target)
    if known is None:
        return next((name for name in names if name.casefold() == target.casefold()), None)
    return min((name for name in names if find_signal(name) is known), key=rank_of_name, default=None)


def _frame(record: _Header, signal: str, target: str) -> pd.DataFrame | None:
    """Return one signal of a record as rows; None where it is a waveform."""
    parts = []
    frame_us = round(1e6 / float(record.master.fs))
    for header, begin, length in record.segments:
        if signal not in (header.sig_name or ()):
            continue
        at = header.sig_name.index(signal)
        per_frame = header.samps_per_frame[at] or 1
        if header.fs * per_frame > MAX_NUMERIC_HZ:
            return None
        values = _samples(record.path.parent / header.record_name, signal)
        # In whole steps: headers write a minute as 0.0166666666667 Hz, which is none.
        time_us = (begin * per_frame + np.arange(len(values), dtype=np.int64)) * round(frame_us / per_frame)
        parts.append(pd.DataFrame({"time_us": time_us, target: values, "unit": header.units[at]}))
        assert length is None or len(values) == length * per_frame
    found = pd.concat(parts, ignore_index=True)
    start = np.datetime64(record.master.base_datetime or pd.Timestamp(0), "us")
    comments = " ".join(record.master.comments)
    return pd.DataFrame(
        {
            "item_id": _subject(record.path, comments),
            "record": stem(record.path),
            "timestamp": start + found["time_us"].to_numpy().astype("timedelta64[us]"),
            target: found[target],
            "signal": signal,
            "unit": found["unit"],
            **about(comments),
        }
    )


def _samples(name: Path, signal: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Read every sample of one signal of a record without segments, NaN where it is marked as missing."""
    import wfdb

    try:
        # Not smoothed: the mean of a frame in which a zero says "not measured" would be a value never measured.
        record = wfdb.rdrecord(str(name), channel_names=[signal], smooth_frames=False)
    except _UNREADABLE as error:
        raise DataError(f"{name}.hea: its samples cannot be read: {error}") from error
    values: np.ndarray[Any, np.dtype[np.float64]] = record.e_p_signal[0]
    return values


def _subject(path: Path, comments: str) -> str:
    """Return whose record it is: all of one subject's records go to one part of a split."""
    name = path.stem
    if said := _SUBJECT.search(comments):
        return said[1]
    if matched := _PATIENT.match(name) or _SEGMENT.match(name):
        return matched[1]
    return name.removesuffix("n")
