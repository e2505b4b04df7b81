"""From a path to a table, whatever kind of file or folder it is; or from a frame in memory."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from device_runtime.nearest import did_you_mean_path
from device_runtime.series.options import ReadOptions
from edge_tsfm.data.bidmc import read_bidmc_folder
from edge_tsfm.data.events import read_events
from edge_tsfm.data.in_memory import table_of_frame
from edge_tsfm.data.layouts import names_an_id
from edge_tsfm.data.names import TABLE_ENDINGS, TEXT_ENDINGS, files_below, has_ending, is_about, names_of, stem
from edge_tsfm.data.psv import read_psv_folder
from edge_tsfm.data.tables import Table, read_table
from edge_tsfm.data.wfdb_records import read_wfdb
from edge_tsfm.errors import DataError

MOST_NAMED = 5  # files, in a note
Source = str | Path | pd.DataFrame


def open_source(source: Source, *, target: str | None, options: ReadOptions) -> Table:
    """Read the file or folder ``source``, or a frame; ``target`` lets record readers skip other signals.

    A folder is, in this order: WFDB (has ``.hea``), PhysioNet 2019 (``.psv``), BIDMC (``*_Numerics.csv``), or
    CSV and Parquet files of one shape, or text files where it has no others. Its sub-folders are read where it has no
    such file itself. What is not read is named in a note. Raises `DataError`.
    """
    if isinstance(source, pd.DataFrame):
        return table_of_frame(source)
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path} does not exist", hint=did_you_mean_path(path) or None)
    if has_ending(path, (".hea",)):
        return read_wfdb([path], source=path, target=target)
    if not path.is_dir():
        events = read_events(path, target=target, options=options)
        return read_table(path) if events is None else events
    return _read_folder(path, target=target, options=options)


def _read_folder(path: Path, *, target: str | None, options: ReadOptions) -> Table:
    """Read the files of one kind in a folder, or below it, and note the others."""

    def tables(files: Sequence[Path]) -> Table:
        return _stack(path, [read_table(one) for one in files], named=options.id_column is not None)

    kinds: tuple[tuple[Callable[[Path], bool], Callable[[Sequence[Path]], Table]], ...] = (
        (lambda one: has_ending(one, (".hea",)), lambda files: read_wfdb(files, source=path, target=target)),
        (lambda one: has_ending(one, (".psv",)), lambda files: read_psv_folder(files, source=path)),
        (lambda one: has_ending(one, ("_numerics.csv",)), lambda files: read_bidmc_folder(files, source=path)),
        (lambda one: has_ending(one, TABLE_ENDINGS), tables),
        (lambda one: has_ending(one, TEXT_ENDINGS) and not is_about(one), tables),
    )
    below = files_below(path)
    for places in ([one for one in below if one.parent == path], below):
        for is_kind, read in kinds:
            if files := [one for one in places if is_kind(one)]:
                return _noting(read(files), path, files, below)
    raise DataError(
        f"{path} has no .hea, .psv, .csv, .parquet or .txt file, nor has a folder in it",
        hint="is it the right folder?",
    )


def _noting(table: Table, folder: Path, read: Sequence[Path], below: Sequence[Path]) -> Table:
    """Add to a table's notes which files below ``folder`` were passed over."""
    used = set(read)
    beside = {(one.parent, stem(one).removesuffix("_Numerics")) for one in read}
    left = [
        one.relative_to(folder)
        for one in below
        if one not in used and not is_about(one) and not _belongs(one, beside, table)
    ]
    kinds = sorted({"".join(one.suffixes[-1:]).casefold() for one in read})
    notes = list(table.notes)
    if len(kinds) > 1:
        notes.append(f"files of several kinds read as one table: {', '.join(kinds)}")
    if left:
        more = ", ..." if len(left) > MOST_NAMED else ""
        notes.append(f"{len(left)} files not read: {', '.join(map(str, left[:MOST_NAMED]))}{more}")
    return Table(**{**vars(table), "notes": tuple(notes)})


def _belongs(path: Path, records: set[tuple[Path, str]], table: Table) -> bool:
    """Return whether a file is a part of a record that is read: its samples, its Fix file, its other signals."""
    if table.layout is None:
        return False
    if table.layout.name.startswith("WFDB"):
        return has_ending(path, (".dat", ".atr", ".xws", ".gz"))
    name = path.name.split("_Fix")[0].split("_Signals")[0].split("_Breaths")[0]
    return (path.parent, name) in records


def _stack(source: Path, tables: list[Table], *, named: bool) -> Table:
    """Lay tables of one shape end to end; a file without an id column is one item, named after the file."""
    first = list(tables[0].frame.columns)
    named = named or names_an_id(first)
    names = names_of(source, [table.source for table in tables])
    frames = []
    for table, name in zip(tables, names, strict=True):
        if list(table.frame.columns) != first:
            raise DataError(
                f"{table.source} has other columns than {tables[0].source}",
                hint="read folders of one kind of file",
            )
        frames.append(table.frame if named else table.frame.assign(item_id=name))
    sizes = [len(table.frame) for table in tables]
    ends = np.cumsum(sizes)

    def where(row: int) -> str:
        at = int(np.searchsorted(ends, row, side="right"))
        return tables[at].where(row - int(ends[at] - sizes[at]))

    return Table(
        source=source,
        frame=pd.concat(frames, ignore_index=True),
        where=where,
        notes=tuple(dict.fromkeys(note for table in tables for note in table.notes)),
        file=np.repeat(np.arange(len(tables)), sizes) if named else None,
        files=names,
        delimiter=next((table.delimiter for table in tables if table.delimiter), None),
        commas=any(table.commas for table in tables),
    )
