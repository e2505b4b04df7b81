"""One function from a file or folder to series that can be trained on."""

from pathlib import Path

import numpy as np
import pandas as pd

from edge_tsfm.data.across import AcrossFiles
from edge_tsfm.data.clean import Cleaned, clean
from edge_tsfm.data.clock import gap_limit, interval_us
from edge_tsfm.data.columns import Target, find_layout, find_target
from edge_tsfm.data.fingerprint import fingerprint
from edge_tsfm.data.grid import Grid, lay_on_grid, put_in_order
from edge_tsfm.data.layouts import ID_COLUMNS
from edge_tsfm.data.report import make_report
from edge_tsfm.data.samples import Samples, take_samples
from edge_tsfm.data.series import Dataset, Series
from edge_tsfm.data.sources import open_source
from edge_tsfm.data.times import STEP_US, parse_interval
from edge_tsfm.errors import ConfigError, DataError

# Above this share of impossible values the column is not what it is said to be, most often another unit.
MAX_IMPLAUSIBLE_SHARE = 0.5


def read_dataset(
    path: str | Path,
    *,
    target: str | None = None,
    id_column: str | None = None,
    timestamp_column: str | None = None,
    interval: str | pd.Timedelta | None = None,
    max_gap: str | pd.Timedelta | None = None,
    unit: str | None = None,
    plausible: tuple[float, float] | None = None,
    ids_across_files: AcrossFiles | None = None,
) -> Dataset:
    """Read one channel of a file or folder as series on a regular clock.

    Understands CSV and Parquet, long (``item_id, timestamp, target`` or ``unique_id, ds, y``) and wide (a
    column per channel), the PhysioNet 2019 ``.psv`` folder, WFDB numerics, BIDMC numerics and event tables as
    MIMIC's; docs/data.md has the rules.

    ``target`` is a column or any name of a vital sign (``SpO2`` finds ``O2Sat``). ``interval`` is the clock;
    left out, it is the file's own, which must then be regular. ``max_gap`` (48 intervals when left out) is
    the longest stretch without a row inside one series. ``unit`` says what the column is in, where that is
    not the channel's unit; ``plausible`` replaces the channel table's range. ``ids_across_files`` says what an id in
    several files of a folder is: one patient (``same``), or one for each file (``per-file``); left out, one whose times
    overlap is refused.

    Raises `DataError` for data that cannot be read as asked, `ConfigError` for impossible options.
    """
    source = Path(path)
    clock = None if interval is None else parse_interval(interval)
    table = open_source(source, target=target, text_columns=(*ID_COLUMNS, *((id_column,) if id_column else ())))
    layout = find_layout(table, id_column=id_column, timestamp_column=timestamp_column, step=clock)
    wanted = find_target(table, layout, target)
    samples = take_samples(table, layout, wanted, unit=unit, across=ids_across_files)
    bounds = _bounds(wanted, plausible)
    cleaned = clean(samples.value, bounds)
    _refuse_wrong_unit(source, wanted, cleaned, bounds)
    rows = put_in_order(samples.part, samples.time_us, cleaned.value)
    every_us = interval_us(source, samples, rows, clock or layout.interval)
    grid = lay_on_grid(rows, interval_us=every_us, max_gap=gap_limit(max_gap, every_us))
    step = every_us / STEP_US if samples.clock == "count" else pd.Timedelta(every_us, unit="us")
    series = _series(samples, grid, wanted, step, every_us)
    if not series:
        raise DataError(f"{source}: {wanted.name} has {len(samples.value)} rows and not one usable value")
    return Dataset(
        series=series,
        interval=step,
        channel=wanted.name,
        fingerprint=fingerprint(series),
        empty_items=tuple(sorted(set(samples.item_ids) - {one.item_id for one in series})),
        report=make_report(
            table=table,
            layout=layout,
            wanted=wanted,
            samples=samples,
            cleaned=cleaned,
            rows=rows,
            grid=grid,
            series=series,
            step=step,
            bounds=bounds,
        ),
    )


def _bounds(wanted: Target, plausible: tuple[float, float] | None) -> tuple[float, float] | None:
    if plausible is not None:
        if not plausible[0] < plausible[1]:
            raise ConfigError(f"plausible range {plausible[0]:g} to {plausible[1]:g} holds nothing")
        return plausible
    return None if wanted.channel is None else (wanted.channel.low, wanted.channel.high)


def _refuse_wrong_unit(source: Path, wanted: Target, cleaned: Cleaned, bounds: tuple[float, float] | None) -> None:
    positive = len(cleaned.value) - cleaned.missing - cleaned.non_positive
    if bounds is None or cleaned.implausible <= MAX_IMPLAUSIBLE_SHARE * positive:
        return
    unit = "" if wanted.channel is None else f" {wanted.channel.unit}"
    raise DataError(
        f"{source}: {cleaned.implausible} of {positive} values of {wanted.column} lie outside "
        f"{bounds[0]:g} to {bounds[1]:g}{unit}",
        hint="is it another unit (--unit degF) or another channel (--target)?",
    )


def _series(
    samples: Samples, grid: Grid, wanted: Target, step: pd.Timedelta | float, every_us: int
) -> tuple[Series, ...]:
    """Return the stretches that hold a value, numbered within each item."""
    grid.value.setflags(write=False)
    observed = np.concatenate([[0], np.cumsum(~np.isnan(grid.value))])
    counts = observed[grid.begin[1:]] - observed[grid.begin[:-1]]
    timed = samples.clock == "timestamp"
    starts = grid.start_us.astype("datetime64[us]") if timed else None
    found: list[Series] = []
    for s in np.flatnonzero(counts):
        part = int(grid.part[s])
        item_id = samples.item_ids[part]
        found.append(
            Series(
                item_id=item_id,
                channel=wanted.name,
                interval=step,
                target=grid.value[grid.begin[s] : grid.begin[s + 1]],
                start=None if starts is None else pd.Timestamp(starts[s]),
                first_step=0 if timed else int(grid.start_us[s] // every_us),
                segment=found[-1].segment + 1 if found and found[-1].item_id == item_id else 0,
                attributes=samples.attributes[part],
            )
        )
    return tuple(found)
