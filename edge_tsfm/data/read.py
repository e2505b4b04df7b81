"""One function from a file or folder to series that can be trained on."""

import numpy as np
import pandas as pd

from device_runtime.series.options import ReadOptions
from device_runtime.series.read import Refine, read
from device_runtime.series.reading import Reading
from device_runtime.series.signals import Signal
from device_runtime.series.times import STEP_US
from edge_tsfm.data.across import AcrossFiles
from edge_tsfm.data.across import ids_across_files as tell_apart
from edge_tsfm.data.attributes import take_attributes
from edge_tsfm.data.clock import as_text
from edge_tsfm.data.fingerprint import fingerprint
from edge_tsfm.data.frames import FrameColumns, cells_of
from edge_tsfm.data.names import stem
from edge_tsfm.data.report import make_report
from edge_tsfm.data.series import Attributes, Dataset, Series
from edge_tsfm.data.sources import Source, open_source
from edge_tsfm.data.tables import Table
from edge_tsfm.errors import DataError, as_data_errors


def read_dataset(
    source: Source,
    *,
    target: str | None = None,
    id_column: str | None = None,
    timestamp_column: str | None = None,
    variable_column: str | None = None,
    value_column: str | None = None,
    unit_column: str | None = None,
    interval: str | pd.Timedelta | None = None,
    max_gap: str | pd.Timedelta | None = None,
    unit: str | None = None,
    duplicates: str | None = None,
    where: tuple[str, ...] = (),
    decimal: str | None = None,
    plausible: tuple[float, float] | None = None,
    ids_across_files: AcrossFiles | None = None,
    signal: Signal | None = None,
) -> Dataset:
    """Read one signal of a file, a folder or a pandas frame as series on a regular clock.

    Understands CSV and Parquet, long (``item_id, timestamp, target`` or ``unique_id, ds, y``) and wide (a
    column per signal), the PhysioNet 2019 ``.psv`` folder, WFDB numerics, BIDMC numerics and event tables as
    MIMIC's; docs/guides/data.md has the rules, which are those of the device's own reader (`device_runtime.series`).

    ``target`` is a column or any name of a vital sign (``SpO2`` finds ``O2Sat``). ``interval`` is the clock;
    left out, it is the file's own, which must then be regular. ``max_gap`` (48 intervals when left out) is
    the longest stretch without a row inside one series. ``unit`` says what the column is in, where that is
    not the signal's unit; ``plausible`` replaces its plausible range. ``duplicates`` (``mean``, ``last``,
    ``median`` or ``error``) says what becomes of rows of one time that disagree, which beyond 1 % are refused
    otherwise; ``where`` keeps the rows that meet every ``COLUMN=VALUE``. ``ids_across_files`` says what an id in
    several files of a folder is: one patient (``same``), or one for each file (``per-file``); left out, one whose
    times overlap is refused. ``signal`` describes one that the table of signals lacks.

    Raises `DataError` for data that cannot be read as asked, `ConfigError` for impossible options.
    """
    with as_data_errors():
        options = ReadOptions(
            id_column=id_column,
            timestamp_column=timestamp_column,
            variable_column=variable_column,
            value_column=value_column,
            unit_column=unit_column,
            interval=as_text(interval),
            max_gap=as_text(max_gap),
            unit=unit,
            duplicates=duplicates,
            where=where,
            decimal=decimal,
            plausible=plausible,
            signal=signal,
        )
    table = open_source(source, target=target, options=options)
    columns = FrameColumns(table.frame)
    with as_data_errors():
        reading = read(
            cells_of(table, columns),
            target,
            options,
            known=table.layout,
            otherwise=stem(table.source),
            refine=_across(table, ids_across_files),
        )
    every = reading.every_us
    step = every / STEP_US if reading.clock == "count" else pd.Timedelta(every, unit="us")
    series = _series(reading, take_attributes(columns, reading), step)
    if not series:
        raise DataError(f"{table.source}: {reading.target.name} has {len(reading.kept)} rows and not one usable value")
    return Dataset(
        series=series,
        interval=step,
        signal=reading.target.name,
        fingerprint=fingerprint(series),
        empty_items=tuple(sorted(set(reading.parts.item_ids) - {one.item_id for one in series})),
        report=make_report(table, reading, series, step),
    )


def _across(table: Table, how: AcrossFiles | None) -> Refine | None:
    """Return what tells apart what one id means in several files; None where there is one file."""
    file, files = table.file, table.files
    if file is None:
        return None
    return lambda ids, time_us, kept: tell_apart(ids, time_us, file[kept], files, how, table.source)


def _series(reading: Reading, attributes: Attributes, step: pd.Timedelta | float) -> tuple[Series, ...]:
    """Return the stretches that hold a value as series."""
    reading.grid.value.setflags(write=False)
    timed = reading.clock == "timestamp"
    return tuple(
        Series(
            item_id=one.item_id,
            signal=reading.target.name,
            interval=step,
            target=one.values,
            start=pd.Timestamp(np.datetime64(one.start_us, "us")) if timed else None,
            first_step=0 if timed else one.start_us // reading.every_us,
            segment=one.segment,
            attributes=attributes[one.part],
        )
        for one in reading.stretches()
    )
