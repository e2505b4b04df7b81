"""Event tables in chunks: a vital sign is a few million of the 300 million rows of MIMIC-IV chartevents."""

import gzip
import io
import zlib
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from device_runtime.series.header import split_head
from device_runtime.series.layouts import Layout, known_layout
from device_runtime.series.options import ReadOptions
from device_runtime.series.signals import find_event
from device_runtime.series.target import event_is
from edge_tsfm.data.tables import CSV_SUFFIXES, Table
from edge_tsfm.errors import DataError, as_data_errors

CHUNK_ROWS = 1_000_000
# Smaller files are read whole, by the same reader as every other table.
WHOLE_BYTES = 64_000_000


def read_events(path: Path, *, target: str | None, options: ReadOptions) -> Table | None:
    """Read the rows of one signal from a large CSV event table of a known layout; None when it is not one.

    Only those rows are ever in memory together. Raises `DataError` when the table has no such rows or is damaged.
    """
    plain = options.variable_column is None and options.value_column is None
    if target is None or not plain or not path.name.casefold().endswith(CSV_SUFFIXES):
        return None
    try:
        if path.stat().st_size * (10 if path.suffix.casefold() == ".gz" else 1) < WHOLE_BYTES:
            return None
        with _open(path) as file, as_data_errors():
            head = file.readline()
            names, delimiter, _, first, _ = split_head(head, str(path))
            layout = known_layout(names)
            if layout is None or layout.name_column is None:
                return None
            return _read_rows(path, file, names=names, delimiter=delimiter, layout=layout, target=target, first=first)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start}", hint="save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path} is not a regular table: {str(error).strip()}") from error


def _open(path: Path) -> TextIO:
    if path.suffix.casefold() == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _read_rows(
    path: Path, file: TextIO, *, names: list[str], delimiter: str, layout: Layout, target: str, first: int
) -> Table:
    signal = find_event(target)
    kept: list[pd.DataFrame] = []
    decided: dict[str, bool] = {}  # event name -> is it the target
    chunks = pd.read_csv(
        file,
        sep=delimiter,
        names=names,
        header=None,
        index_col=False,
        dtype=object,
        na_filter=False,
        skipinitialspace=True,
        skip_blank_lines=False,  # keeps line numbers true
        chunksize=CHUNK_ROWS,
        low_memory=False,
    )
    for chunk in chunks:
        events = chunk[str(layout.name_column)]
        for name in events.unique():
            decided.setdefault(name, event_is(name.strip(), target, signal))
        kept.append(chunk[events.isin([name for name, is_target in decided.items() if is_target])])
    frame = pd.concat(kept) if kept else pd.DataFrame(columns=names)
    if not len(frame):
        raise DataError(
            f"{path} has no rows with {layout.name_column} {target!r}",
            hint=f"it has: {', '.join(list(decided)[:16])}{' ...' if len(decided) > 16 else ''}",
        )
    lines = frame.index.to_numpy(dtype=np.int64) + first
    return Table(
        source=path,
        frame=frame.reset_index(drop=True),
        where=lambda row: f"{path}, line {lines[row]}",
        layout=layout,
        delimiter=delimiter,
        commas=True,
    )
