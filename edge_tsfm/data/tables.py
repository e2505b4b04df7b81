"""CSV and Parquet files as one frame, with the file and line of every row kept for messages."""

import csv
import gzip
import io
import re
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge_tsfm.data.layouts import Layout
from edge_tsfm.data.parquet import read_parquet
from edge_tsfm.errors import DataError

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".psv", ".csv.gz", ".tsv.gz", ".txt.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A frame of R rows and where they came from; ``layout`` where the reader knows it."""

    source: Path
    frame: pd.DataFrame
    where: Callable[[int], str]  # row number from 0 -> "file, line n"
    layout: Layout | None = None
    notes: tuple[str, ...] = ()
    file: NDArray[np.int64] | None = None  # [R], which of ``files`` a row is from; None for one file
    files: tuple[str, ...] = ()  # their names without endings


def read_table(path: Path, *, text_columns: Sequence[str] = ()) -> Table:
    """Read one CSV (any of ``, ; tab |``, BOM or not, gzip or not) or Parquet file.

    ``text_columns`` stay text: an id ``007`` is not 7. Raises `DataError` when the file is not such a table.
    """
    if path.name.casefold().endswith(PARQUET_SUFFIXES):
        return _read_parquet(path)
    if path.name.casefold().endswith(CSV_SUFFIXES):
        return _read_csv(path, text_columns)
    raise DataError(
        f"{path}: do not know how to read a file called {path.name}",
        hint="give a .csv, .csv.gz, .parquet or WFDB .hea file, or a folder of .psv or WFDB files",
    )


def _read_parquet(path: Path) -> Table:
    frame, notes = read_parquet(path)
    return Table(source=path, frame=_not_empty(path, frame), where=lambda row: f"{path}, row {row + 1}", notes=notes)


def _read_csv(path: Path, text_columns: Sequence[str]) -> Table:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix.casefold() == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start}", hint="save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    frame = parse_csv(text, source=path, text_columns=text_columns)
    return Table(source=path, frame=_not_empty(path, frame), where=lambda row: f"{path}, line {row + 2}")


def parse_csv(text: str, *, source: Path, text_columns: Sequence[str] = ()) -> pd.DataFrame:
    """Parse CSV text whose first line names the columns; the delimiter is the one that line has most of.

    With ``;`` a comma between digits is a decimal comma, as spreadsheets in much of Europe write it.
    """
    head, _, body = text.partition("\n")
    names, delimiter = header_of(head, source=source)
    comma = delimiter == ";" and re.search(r"(^|;)-?\d+,\d+(;|\r?$)", body[:20_000], re.MULTILINE) is not None
    wanted = {name.casefold() for name in text_columns}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header loses data
            return pd.read_csv(
                io.StringIO(body.rstrip()),
                sep=delimiter,
                decimal="," if comma else ".",
                names=names,
                header=None,
                index_col=False,
                dtype={name: "str" for name in names if name.casefold() in wanted},
                skipinitialspace=True,
                skip_blank_lines=False,  # keeps line numbers true
                low_memory=False,
            )
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{source} has column names but no rows") from error
    except (ValueError, pd.errors.ParserWarning) as error:  # ParserError is a ValueError
        raise DataError(f"{source} is not a regular table: {str(error).strip()}") from error


def header_of(line: str, *, source: Path) -> tuple[list[str], str]:
    """Return the column names in a CSV's first line, and its delimiter."""
    if not line.strip():
        raise DataError(f"{source} is empty: expected a first line that names the columns")
    delimiter = max(_DELIMITERS, key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{source} has two columns called {twice[0]!r}", hint="rename one of them")
    return names, delimiter


def _not_empty(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    if not len(frame):
        raise DataError(f"{path} has column names but no rows")
    return frame


def numbers(table: Table, column: str) -> NDArray[np.float64]:
    """Return a column as float64, NaN where empty; raises `DataError` naming the first text in it."""
    values = table.frame[column]
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    parsed = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isnan(parsed) & values.notna().to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"column {column!r} has {values.iloc[row]!r} where a number is wanted ({table.where(row)}; "
            f"{int(bad.sum())} such rows)",
            hint="leave the field empty where nothing was measured",
        )
    return parsed


def texts(table: Table, column: str) -> NDArray[np.object_]:
    """Return a column as text; whole numbers lose their ``.0``. Raises `DataError` where a field is empty."""
    values = table.frame[column]
    empty = values.isna().to_numpy()
    if not empty.any() and not pd.api.types.is_numeric_dtype(values):
        empty = (values.astype("str").str.strip() == "").to_numpy()
    if empty.any():
        raise DataError(f"column {column!r} is empty ({table.where(int(np.argmax(empty)))})")
    if pd.api.types.is_float_dtype(values) and (values == values.round()).all():
        values = values.astype("int64")
    return values.astype("str").to_numpy(dtype=object)
