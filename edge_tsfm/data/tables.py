"""CSV and Parquet files as one frame, with the file and line of every row kept for messages."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from device_runtime.series.dialect import decode, may_hold_commas, ragged, split_rows, unpack
from device_runtime.series.header import split_head
from edge_tsfm.data.layouts import Layout
from edge_tsfm.data.parquet import read_parquet
from edge_tsfm.errors import DataError, as_data_errors

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".psv", ".csv.gz", ".tsv.gz", ".txt.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
_BLANK = re.compile(r"^ *$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A frame of R rows and where they came from; ``layout`` where the reader knows it.

    Columns of a CSV are text: what they mean is decided by `device_runtime.series`, as on the device.
    """

    source: Path
    frame: pd.DataFrame
    where: Callable[[int], str]  # row number from 0 -> "file, line n"
    layout: Layout | None = None
    notes: tuple[str, ...] = ()
    delimiter: str | None = None  # of a CSV
    commas: bool = False  # some cell may hold a comma
    file: NDArray[np.int64] | None = None  # [R], which of ``files`` a row is from; None for one file
    files: tuple[str, ...] = ()  # their names without endings


def read_table(path: Path) -> Table:
    """Read one CSV (any of ``, ; tab |``, any usual encoding, gzip or not) or Parquet file.

    Raises `DataError` when the file is not such a table.
    """
    if path.name.casefold().endswith(PARQUET_SUFFIXES):
        return _read_parquet(path)
    if path.name.casefold().endswith(CSV_SUFFIXES):
        return _read_csv(path)
    raise DataError(
        f"{path}: cannot read a file of this name: {path.name}",
        hint="give a .csv, .csv.gz, .parquet or WFDB .hea file, or a folder of .psv or WFDB files",
    )


def _read_parquet(path: Path) -> Table:
    frame, notes = read_parquet(path)
    return Table(source=path, frame=_not_empty(path, frame), where=lambda row: f"{path}, row {row + 1}", notes=notes)


def _read_csv(path: Path) -> Table:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    with as_data_errors():
        text, notes = decode(unpack(data, str(path)), str(path))
        names, delimiter, body, first, more = split_head(text, str(path))
        lines: Sequence[int]
        if '"' in body or _has_blank(body.rstrip("\n"), delimiter):
            columns, lines = split_rows(body, names, delimiter, str(path), first)
            frame = pd.DataFrame(columns, dtype=object)
        else:
            frame = _split(body.rstrip("\n"), names, delimiter, path, first)
            lines = range(first, first + len(frame))
    return Table(
        source=path,
        frame=_not_empty(path, frame),
        where=lambda row: f"{path}, line {lines[row]}",
        notes=(*notes, *more),
        delimiter=delimiter,
        commas=may_hold_commas(body, delimiter),
    )


def parse_csv(text: str, *, source: Path) -> pd.DataFrame:
    """Split CSV text whose first line names the columns; every cell stays text, blank lines stay as empty rows.

    Where no cell is quoted pyarrow splits, fast; else the device's own splitter. Raises `DataError` for no regular
    table.
    """
    with as_data_errors():
        names, delimiter, body, first, _ = split_head(text, str(source))
        body = body.rstrip("\n")
        if '"' in body:
            return pd.DataFrame(split_rows(body, names, delimiter, str(source), first)[0], dtype=object)
        if len(names) > 1 and _has_blank(body, delimiter):
            body = _BLANK.sub(delimiter * (len(names) - 1), body)  # keeps line numbers true
        return _split(body, names, delimiter, source, first)


def _split(body: str, names: list[str], delimiter: str, source: Path, first: int) -> pd.DataFrame:
    """Split rows without quotes and without blank lines; ``first`` is the line that ``body`` begins on."""
    if not body or body.isspace():
        raise DataError(f"{source} has column names but no rows")
    _refuse_ragged(body, len(names), delimiter, source, first)
    try:
        table = csv.read_csv(
            pa.BufferReader(body.encode()),
            csv.ReadOptions(column_names=names),
            csv.ParseOptions(delimiter=delimiter, quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{source} is not a regular table: {str(error).strip()}") from error
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _has_blank(body: str, delimiter: str) -> bool:
    """Return whether a line holds nothing but blanks; of a table parted by tabs, nothing but spaces."""
    if "\n\n" in body or body.startswith("\n"):
        return True
    return re.search(r"\n +\n" if delimiter == "\t" else r"\n[ \t]+\n", body) is not None


def _refuse_ragged(body: str, width: int, delimiter: str, source: Path, first: int) -> None:
    """Refuse a row longer or shorter than the header; ``body`` has no quotes."""
    lines = body.count("\n") + 1
    if body.count(delimiter) == lines * (width - 1):
        return  # a short row could only hide behind a long one, which pyarrow refuses
    for number, line in enumerate(body.split("\n")):
        if line.count(delimiter) != width - 1 and line.strip(" \t"):
            raise ragged(str(source), number + first, line.count(delimiter) + 1, width)


def _not_empty(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    if not len(frame):
        raise DataError(f"{path} has column names but no rows")
    return frame
