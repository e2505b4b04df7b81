"""The report of an import: what was read, what was changed, what is missing."""

import numpy as np
import pandas as pd

from device_runtime.series.reading import Reading
from edge_tsfm.data.clock import say_interval
from edge_tsfm.data.series import ImportReport, Series
from edge_tsfm.data.tables import Table

# Below this share of places with a row, the clock is probably finer than the file's.
FEW_ROWS = 0.25


def make_report(table: Table, reading: Reading, series: tuple[Series, ...], step: pd.Timedelta | float) -> ImportReport:
    """Count what every stage did; ``step`` is the clock."""
    wanted, layout, grid, rows = reading.target, reading.layout, reading.grid, reading.rows
    values = sum(int((~np.isnan(one.target)).sum()) for one in series)
    places = sum(len(one) for one in series)
    items = len({one.item_id for one in series})
    notes = list(reading.notes)
    if wanted.signal is None:
        notes.append(f"{wanted.name} is not in the table of signals: no plausible range, values passed through")
    if not grid.aligned:
        notes.append(f"times are not on one clock: median of each bin [t, t + {say_interval(step)})")
    if layout.id_column is None and items == 1:
        notes.append(
            f"no id column: one series, {series[0].item_id}; a split by patient needs more, --split-by time does not"
        )
    if grid.filled < FEW_ROWS * len(grid.value):
        share = grid.filled / len(grid.value)
        notes.append(f"only {share:.1%} of places have a row: is the interval shorter than the file's?")
    return ImportReport(
        source=table.source.name,
        layout=layout.name,
        column=wanted.column,
        channel=wanted.name,
        unit=reading.unit,
        interval=say_interval(step),
        rows=len(reading.kept),
        items=items,
        series=len(series),
        values=values,
        share_observed=values / places,
        missing=reading.cleaned.missing - reading.in_error,
        non_positive=reading.cleaned.non_positive,
        implausible=reading.cleaned.implausible,
        plausible_range=reading.bounds,
        converted=reading.converted,
        duplicates_identical=rows.duplicates_identical,
        duplicates_conflicting=rows.duplicates_conflicting,
        unsorted=rows.unsorted,
        merged=grid.merged,
        gaps=grid.gaps,
        items_without_values=len(set(reading.parts.item_ids)) - items,
        in_error=reading.in_error,
        left_out=reading.left_out,
        columns=tuple(layout.lines()),
        notes=tuple(notes),
    )
