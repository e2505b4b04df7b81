"""One function from a file or folder to series that can be trained on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from device_runtime.series.read import Refine, read
from device_runtime.series.reading import Reading
from device_runtime.series.signals import Signal
from device_runtime.series.times import STEP_US
from edge_tsfm.data.across import AcrossFiles
from edge_tsfm.data.across import ids_across_files as tell_apart
from edge_tsfm.data.attributes import take_attributes
from edge_tsfm.data.fingerprint import fingerprint
from edge_tsfm.data.frames import FrameColumns, cells_of
from edge_tsfm.data.names import stem
from edge_tsfm.data.options import DataOptions
from edge_tsfm.data.report import make_report
from edge_tsfm.data.series import Attributes, Dataset, Series
from edge_tsfm.data.sources import Source, open_source
from edge_tsfm.data.tables import Table
from edge_tsfm.errors import DataError, as_data_errors

AS_THEY_SAY = DataOptions()


def read_dataset(
    source: Source,
    options: DataOptions = AS_THEY_SAY,
    *,
    target: str | None = None,
    signal: Signal | None = None,
    plausible: tuple[float, float] | None = None,
) -> Dataset:
    """Read one signal of a file, a folder or a pandas frame as series on a regular clock.

    Understands CSV and Parquet, long (``item_id, timestamp, target`` or ``unique_id, ds, y``) and wide (a
    column per signal), the PhysioNet 2019 ``.psv`` folder, WFDB numerics, BIDMC numerics and event tables as
    MIMIC's; docs/guides/data.md has the rules, which are those of the device's own reader (`device_runtime.series`).

    ``target`` is a column or any name of a vital sign (``SpO2`` finds ``O2Sat``). ``options`` say what the data do not
    say themselves; left out, they say it, or are refused. ``signal`` describes a signal that the table of signals
    lacks, ``plausible`` replaces the range of one, ends included.

    Raises `DataError` for data that cannot be read as asked, `ConfigError` for impossible options.
    """
    with as_data_errors():  # before a file is opened that may be large
        options.of_table(signal=signal, plausible=plausible)
    opened = open_data(source, options, target=target)
    return read_opened(opened, options, target=target, signal=signal, plausible=plausible)


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A source whose columns are converted once, however often it is read."""

    table: Table
    columns: FrameColumns


def open_data(source: Source, options: DataOptions = AS_THEY_SAY, *, target: str | None = None) -> Opened:
    """Open what `read_dataset` reads, once for several readings of it. Raises what that raises."""
    with as_data_errors():
        of_table, _ = options.of_table(), options.across()
    table = open_source(source, target=target, options=of_table)
    return Opened(table=table, columns=FrameColumns(table.frame))


def read_opened(
    opened: Opened,
    options: DataOptions,
    *,
    target: str | None = None,
    signal: Signal | None = None,
    plausible: tuple[float, float] | None = None,
) -> Dataset:
    """Do what `read_dataset` says with a source that is open."""
    table, columns = opened.table, opened.columns
    with as_data_errors():
        of_table, across = options.of_table(signal=signal, plausible=plausible), options.across()
        reading = read(
            cells_of(table, columns),
            target,
            of_table,
            known=table.layout,
            otherwise=stem(table.source),
            refine=_across(table, across),
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
            phase=one.start_us % reading.every_us / STEP_US if reading.clock == "count" else 0.0,
            segment=one.segment,
            attributes=attributes[one.part],
        )
        for one in reading.stretches()
    )
