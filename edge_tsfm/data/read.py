"""One function from a file or folder to series that can be trained on."""

from pathlib import Path

import numpy as np
import pandas as pd

from edge_tsfm.data.clean import Cleaned, clean
from edge_tsfm.data.columns import Target, find_layout, find_target
from edge_tsfm.data.fingerprint import fingerprint
from edge_tsfm.data.grid import Grid, Ordered, common_interval, lay_on_grid, off_clock, put_in_order
from edge_tsfm.data.layouts import ID_COLUMNS, Layout
from edge_tsfm.data.samples import Samples, take_samples
from edge_tsfm.data.series import Dataset, ImportReport, Series
from edge_tsfm.data.sources import open_source
from edge_tsfm.data.tables import Table
from edge_tsfm.data.times import STEP_US, parse_interval
from edge_tsfm.errors import ConfigError, DataError

# A default context: what lies further back than this tells a forecast nothing.
MAX_GAP_INTERVALS = 48
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
) -> Dataset:
    """Read one channel of a file or folder as series on a regular clock.

    Understands CSV and Parquet, long (``item_id, timestamp, target`` or ``unique_id, ds, y``) and wide (a column per
    channel), the PhysioNet 2019 ``.psv`` folder, WFDB numerics, BIDMC numerics and event tables as MIMIC's; see
    docs/data.md. ``target`` is a column or any name of a vital sign (``SpO2`` finds ``O2Sat``). ``interval`` is the
    clock; left out, it is the file's own, which must then be regular. ``max_gap`` (48 intervals when left out)
    is the longest stretch without a row inside one series. ``unit`` says what unit the column is in, ``plausible`` overrides the channel table's range.

    Raises `DataError` for data that cannot be read as asked, `ConfigError` for impossible options.
    """
    source = Path(path)
    clock = None if interval is None else parse_interval(interval)
    table = open_source(
        source, target=target, text_columns=(*ID_COLUMNS, *((id_column,) if id_column else ()))
    )
    layout = find_layout(table, id_column=id_column, timestamp_column=timestamp_column, step=clock)
    wanted = find_target(table, layout, target)
    samples = take_samples(table, layout, wanted, unit=unit)
    bounds = _bounds(wanted, plausible)
    cleaned = clean(samples.value, bounds)
    _refuse_wrong_unit(source, wanted, cleaned, bounds)
    rows = put_in_order(samples.part, samples.time_us, cleaned.value)
    interval_us = _interval_us(source, samples, rows, clock or layout.interval)
    grid = lay_on_grid(rows, interval_us=interval_us, max_gap=_gap_limit(max_gap, interval_us))
    step = interval_us / STEP_US if samples.clock == "count" else pd.Timedelta(interval_us, unit="us")
    series = _series(samples, grid, wanted, step, interval_us)
    if not series:
        raise DataError(f"{source}: {wanted.name} has {len(samples.value)} rows and not one usable value")
    return Dataset(
        series=series,
        interval=step,
        channel=wanted.name,
        fingerprint=fingerprint(series),
        report=_report(table, layout, wanted, samples, cleaned, rows, grid, series, step, bounds),
    )


def _bounds(wanted: Target, plausible: tuple[float, float] | None) -> tuple[float, float] | None:
    if plausible is not None:
        if not plausible[0] < plausible[1]:
            raise ConfigError(f"plausible range {plausible[0]:g} to {plausible[1]:g} holds nothing")
        return plausible
    return None if wanted.channel is None else (wanted.channel.low, wanted.channel.high)


def _refuse_wrong_unit(
    source: Path, wanted: Target, cleaned: Cleaned, bounds: tuple[float, float] | None
) -> None:
    positive = len(cleaned.value) - cleaned.missing - cleaned.non_positive
    if bounds is None or cleaned.implausible <= MAX_IMPLAUSIBLE_SHARE * positive:
        return
    unit = "" if wanted.channel is None else f" {wanted.channel.unit}"
    raise DataError(
        f"{source}: {cleaned.implausible} of {positive} values of {wanted.column} lie outside "
        f"{bounds[0]:g} to {bounds[1]:g}{unit}",
        hint="is it another unit (--unit degF) or another channel (--target)?",
    )


def _interval_us(source: Path, samples: Samples, rows: Ordered, clock: pd.Timedelta | None) -> int:
    """Return the clock in microseconds: the one asked for, else the file's own if it has exactly one."""
    if clock is not None:
        return int(clock / pd.Timedelta("1us"))
    own = common_interval(rows)
    if own is None:
        raise DataError(
            f"{source} has one row for each item: a series needs more", hint="is the id column right?"
        )
    text = _span(own, samples)
    off = off_clock(rows, own)
    if off.any():
        row = int(np.argmax(off))
        raise DataError(
            f"{source} is irregular: {int(off.sum())} of {len(off)} rows are not a whole number of {text} after their "
            f"item's first (item {samples.item_ids[rows.part[row]]})",
            hint=f"say --interval ({text} or longer): values are put on that clock, the median of each bin",
        )
    other = _other_interval(rows, own)
    if other is not None:
        part, step = other
        raise DataError(
            f"{source} mixes intervals: most rows are {text} apart, those of item {samples.item_ids[part]} "
            f"{_span(step, samples)}",
            hint="say --interval (the longest of them), or read them apart",
        )
    return own


def _other_interval(rows: Ordered, own: int) -> tuple[int, int] | None:
    """Return a part most of whose steps are one other interval, and that interval in microseconds."""
    same = rows.part[1:] == rows.part[:-1]
    owner, steps = rows.part[1:][same], np.diff(rows.time_us)[same]
    total = np.bincount(owner)
    agreeing = np.bincount(owner[steps == own], minlength=len(total))
    for part in np.flatnonzero((total >= 4) & (agreeing * 2 < total)):
        sizes, counts = np.unique(steps[owner == part], return_counts=True)
        if counts.max() * 2 > total[part]:
            return int(part), int(sizes[np.argmax(counts)])
    return None


def _gap_limit(max_gap: str | pd.Timedelta | None, interval_us: int) -> int:
    if max_gap is None:
        return MAX_GAP_INTERVALS
    limit = int(parse_interval(max_gap) / pd.Timedelta("1us")) // interval_us
    if limit < 1:
        raise ConfigError(f"max_gap {max_gap} is shorter than the interval")
    return limit


def _span(us: int, samples: Samples) -> str:
    return (
        f"{us / STEP_US:g} steps" if samples.clock == "count" else say_interval(pd.Timedelta(us, unit="us"))
    )


def say_interval(interval: pd.Timedelta | float) -> str:
    """Return an interval as people write it: ``1h``, ``5min``, ``1s``; ``1 steps`` for steps of unknown length."""
    if not isinstance(interval, pd.Timedelta):
        return f"{interval:g} steps"
    for word, size in (("d", "1D"), ("h", "1h"), ("min", "1min"), ("s", "1s"), ("ms", "1ms")):
        count = interval / pd.Timedelta(size)
        if count >= 1 and count == int(count):
            return f"{int(count)}{word}"
    return f"{interval / pd.Timedelta('1s'):g}s"


def _series(
    samples: Samples, grid: Grid, wanted: Target, step: pd.Timedelta | float, interval_us: int
) -> tuple[Series, ...]:
    """Return the stretches that hold a value, numbered within each item."""
    grid.value.setflags(write=False)
    observed = np.concatenate([[0], np.cumsum(~np.isnan(grid.value))])
    counts = observed[grid.begin[1:]] - observed[grid.begin[:-1]]
    timed = samples.clock == "timestamp"
    starts = pd.DatetimeIndex(grid.start_us.astype("datetime64[us]")) if timed else None
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
                start=None if starts is None else starts[s],
                first_step=0 if timed else int(grid.start_us[s] // interval_us),
                segment=found[-1].segment + 1 if found and found[-1].item_id == item_id else 0,
                attributes=samples.attributes[part],
            )
        )
    return tuple(found)


def _report(
    table: Table,
    layout: Layout,
    wanted: Target,
    samples: Samples,
    cleaned: Cleaned,
    rows: Ordered,
    grid: Grid,
    series: tuple[Series, ...],
    step: pd.Timedelta | float,
    bounds: tuple[float, float] | None,
) -> ImportReport:
    values = sum(int((~np.isnan(one.target)).sum()) for one in series)
    places = sum(len(one) for one in series)
    items = len({one.item_id for one in series})
    notes = [*table.notes, *(note for note in (layout.note, wanted.note) if note)]
    if wanted.channel is None:
        notes.append(f"{wanted.name} is not in the channel table: no plausible range, values passed through")
    if not grid.aligned:
        notes.append(f"times are not on one clock: median of each bin [t, t + {say_interval(step)})")
    if layout.id_column is None and items == 1:
        notes.append(f"no id column: one series, {series[0].item_id}; a split by patient needs more")
    if values < 0.25 * places:
        notes.append(
            f"only {values / places:.0%} of places hold a value: is the interval shorter than the file's?"
        )
    return ImportReport(
        source=table.source.name,
        layout=layout.name,
        column=layout.value_column or wanted.column,
        channel=wanted.name,
        unit=None if wanted.channel is None else wanted.channel.unit,
        interval=say_interval(step),
        rows=len(samples.value),
        items=items,
        series=len(series),
        values=values,
        share_observed=values / places,
        missing=cleaned.missing,
        non_positive=cleaned.non_positive,
        implausible=cleaned.implausible,
        plausible_range=bounds,
        converted=samples.converted,
        duplicates_identical=rows.duplicates_identical,
        duplicates_conflicting=rows.duplicates_conflicting,
        unsorted=rows.unsorted,
        merged=grid.merged,
        gaps=grid.gaps,
        items_without_values=len(set(samples.item_ids)) - items,
        notes=tuple(notes),
    )
