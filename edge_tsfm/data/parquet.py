"""A Parquet file as plain columns: numbers, text and times. What is none of them is left out and named."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from edge_tsfm.errors import DataError

# An index that pandas kept without a name: row numbers, most often.
_UNNAMED = "__index_level_"
_PLAIN: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_timestamp,
)


def read_parquet(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a Parquet file; return its plain columns, an index's among them, and what a reader must know.

    Categories become what they stand for, decimals numbers, dates times. Lists, structures, bytes and spans of time
    are left out and named: they may lie beside what is needed. Raises `DataError` for a file that is damaged, no
    Parquet, or has two columns of one name.
    """
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error
    names = [name.strip() for name in table.column_names]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path} has two columns called {twice[0]!r}", hint="rename one of them")
    columns: dict[str, pa.ChunkedArray] = {}
    left_out: list[str] = []
    for name, column in zip(names, table.columns, strict=True):
        plain = _plain(column)
        if plain is None:
            left_out.append(f"{name} ({column.type})")
        elif not name.startswith(_UNNAMED):
            columns[name] = plain
    frame = pa.table(columns).to_pandas(ignore_metadata=True, date_as_object=False)
    return frame, (f"columns left out, neither numbers nor text nor times: {', '.join(left_out)}",) if left_out else ()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column as one of the plain types; None for what cannot be one."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_date(kind):
        return column.cast(pa.timestamp("ms"))
    if pa.types.is_null(kind):
        return column.cast(pa.float64())
    return column if any(is_kind(kind) for is_kind in _PLAIN) else None
