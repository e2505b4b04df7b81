"""A Parquet file as plain columns: numbers, text and times. What is none of them is left out and named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from device_runtime.series.id_names import id_tier
from device_runtime.series.words import TIMESTAMPS, fold
from edge_tsfm.errors import DataError

# An index that pandas kept without a name: row numbers, most often.
_UNNAMED = "__index_level_"
_PLAIN: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_timestamp,
)


def read_parquet(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a Parquet file; return its plain columns, an index's among them, and what a reader must know.

    Categories become what they stand for, decimals numbers, dates times, times of day and spans of time text, bytes
    text or hexadecimal; whole numbers too large for a float64 stay exact as text. Lists and structures are left out
    and named: they may lie beside what is needed. Raises `DataError` for a file that is damaged, no Parquet, has two
    columns of one name, or holds ids or times in such columns.
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
        if plain is None and (id_tier(name) or fold(name) in TIMESTAMPS):
            raise DataError(
                f"{path}: column {name!r} holds {column.type}, where an id or a time is needed",
                hint="write one row for each time: an exploded table, not one of lists",
            )
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
        return _digits(column.cast(pa.string())) if _is_large(column) else column.cast(pa.float64())
    if pa.types.is_integer(kind):
        return column.cast(pa.string()) if _is_large(column) else column
    if pa.types.is_date(kind):
        return column.cast(pa.timestamp("ms"))
    if pa.types.is_time(kind):
        return column.cast(pa.string())
    if pa.types.is_duration(kind):
        return _as_text(column.cast(pa.duration("us")).cast(pa.int64()), _elapsed)
    if pa.types.is_null(kind):
        return column.cast(pa.float64())
    if pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)):
        return _from_bytes(column)
    return column if any(is_kind(kind) for is_kind in _PLAIN) else None


def _is_large(column: pa.ChunkedArray) -> bool:
    """Return whether whole numbers are beyond what a float64 (with empty cells) or an int64 holds: ids, most often."""
    if pa.types.is_decimal(column.type) and column.type.scale > 0:
        return False
    ends = [abs(int(end)) for end in pc.min_max(column).as_py().values() if end is not None]
    exact = 2**63 - 1 if pa.types.is_integer(column.type) and not column.null_count else 2**53
    return max(ends, default=0) > exact


def _digits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return decimals written as text without an exponent's sign for a whole number."""
    return pc.replace_substring_regex(column, pattern=r"\.0*$", replacement="")


def _from_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return bytes as the text that they are, or in hexadecimal: an id is one in either."""
    try:
        return column.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return _as_text(column, lambda value: value.hex())


def _as_text(column: pa.ChunkedArray, say: Callable[[Any], str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([None if one is None else say(one) for one in column.to_pylist()], pa.string())])


def _elapsed(microseconds: int) -> str:
    """Return a span of time as the text forms of elapsed times have it."""
    seconds, rest = divmod(microseconds, 1_000_000)
    minutes, hours = seconds // 60, seconds // 3_600
    return f"{hours // 24} days {hours % 24:02d}:{minutes % 60:02d}:{seconds % 60:02d}.{rest:06d}"
