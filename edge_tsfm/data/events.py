"""Event tables in pieces: a vital sign is a few million of the 300 million rows of MIMIC-IV chartevents."""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from edge_tsfm.data.channels import find_channel
from edge_tsfm.data.columns import Target, is_event_of, listed
from edge_tsfm.data.layouts import Layout, known_layout
from edge_tsfm.data.tables import CSV_SUFFIXES, Table, header_of
from edge_tsfm.errors import DataError

CHUNK_ROWS = 1_000_000


def read_events(path: Path, *, target: str | None, text_columns: Sequence[str]) -> Table | None:
    """Read the rows of one channel from a CSV event table of a known layout; None when it is not one.

    Only those rows and the columns needed are ever in memory together. Raises `DataError` when the table
    has no such rows or is damaged.
    """
    if target is None or not path.name.casefold().endswith(CSV_SUFFIXES):
        return None
    try:
        with _open(path) as file:
            names, delimiter = header_of(file.readline(), source=path)
            layout = known_layout(names)
            if layout is None or layout.name_column is None:
                return None
            return _read_rows(
                path, file, names=names, delimiter=delimiter, layout=layout, target=target, text=text_columns
            )
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start}", hint="save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{path} is not a regular table: {str(error).strip()}") from error


def _open(path: Path) -> TextIO:
    if path.suffix.casefold() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _read_rows(
    path: Path,
    file: TextIO,
    *,
    names: list[str],
    delimiter: str,
    layout: Layout,
    target: str,
    text: Sequence[str],
) -> Table:
    channel = find_channel(target)
    wanted = Target(column=str(layout.name_column), name=target if channel is None else channel.name, channel=channel)
    needed = {layout.id_column, layout.part_column, layout.timestamp_column, layout.name_column}
    needed |= {layout.value_column, layout.unit_column}
    kept: list[pd.DataFrame] = []
    decided: dict[object, bool] = {}  # event name -> is it the target
    chunks = pd.read_csv(
        file,
        sep=delimiter,
        names=names,
        header=None,
        index_col=False,
        usecols=[name for name in names if name in needed],
        dtype={name: "str" for name in names if name in text},
        skipinitialspace=True,
        skip_blank_lines=False,  # keeps line numbers true
        chunksize=CHUNK_ROWS,
        low_memory=False,
    )
    for chunk in chunks:
        events = chunk[wanted.column]
        for name in events.dropna().unique():
            decided.setdefault(name, is_event_of(name, wanted))
        kept.append(chunk[events.isin([name for name, is_target in decided.items() if is_target])])
    frame = pd.concat(kept) if kept else pd.DataFrame(columns=names)
    if not len(frame):
        raise DataError(f"{path} has no rows with {wanted.column} {target!r}", hint=f"it has: {listed(list(decided))}")
    lines = frame.index.to_numpy(dtype=np.int64) + 2  # the header is line 1
    return Table(
        source=path,
        frame=frame.reset_index(drop=True),
        where=lambda row: f"{path}, line {lines[row]}",
        layout=layout,
    )
