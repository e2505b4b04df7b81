"""From a path to a table, whatever kind of file or folder it is."""

from pathlib import Path

import pandas as pd

from device_runtime.series.options import ReadOptions
from edge_tsfm.data.events import read_events
from edge_tsfm.data.layouts import names_an_id
from edge_tsfm.data.psv import read_psv_folder
from edge_tsfm.data.records import read_bidmc_folder, read_wfdb
from edge_tsfm.data.tables import PARQUET_SUFFIXES, Table, read_table
from edge_tsfm.errors import DataError

# A folder's .txt files are read-mes and licences.
_FOLDER_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", *PARQUET_SUFFIXES)


def open_source(path: Path, *, target: str | None, options: ReadOptions) -> Table:
    """Read the file or folder at ``path``; ``target`` lets record readers skip other signals.

    A folder is, in this order: WFDB (has ``.hea``), PhysioNet 2019 (``.psv``), BIDMC (``*_Numerics.csv``), or
    CSV and Parquet files of one shape. Raises `DataError`.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.suffix == ".hea":
        return read_wfdb([path], source=path, target=target)
    if path.is_file():
        events = read_events(path, target=target, options=options)
        return read_table(path) if events is None else events
    if headers := sorted(path.glob("*.hea")):
        return read_wfdb(headers, source=path, target=target)
    if records := sorted(path.glob("*.psv")):
        return read_psv_folder(records, source=path)
    if numerics := sorted(path.glob("*_Numerics.csv")):
        return read_bidmc_folder(numerics, source=path)
    tables = sorted(p for p in path.iterdir() if p.name.endswith(_FOLDER_SUFFIXES))
    if not tables:
        raise DataError(f"{path} has no .hea, .psv, .csv or .parquet file", hint="is it the right folder?")
    return _stack(path, [read_table(p) for p in tables], named=options.id_column is not None)


def _stack(source: Path, tables: list[Table], *, named: bool) -> Table:
    """Lay tables of one shape end to end; a file without an id column is one item, named after the file."""
    first = list(tables[0].frame.columns)
    frames = []
    named = named or names_an_id(first)
    for table in tables:
        if list(table.frame.columns) != first:
            raise DataError(
                f"{table.source} has other columns than {tables[0].source}",
                hint="read folders of one kind of file",
            )
        frames.append(table.frame if named else table.frame.assign(item_id=table.source.name.split(".")[0]))
    ends = [sum(len(t.frame) for t in tables[: i + 1]) for i in range(len(tables))]

    def where(row: int) -> str:
        at = next(i for i, end in enumerate(ends) if row < end)
        return tables[at].where(row - (ends[at - 1] if at else 0))

    return Table(
        source=source,
        frame=pd.concat(frames, ignore_index=True),
        where=where,
        notes=tuple(dict.fromkeys(note for table in tables for note in table.notes)),
        delimiter=tables[0].delimiter,
        commas=any(table.commas for table in tables),
    )
