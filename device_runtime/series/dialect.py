"""Bytes of a text file to columns: compression, encoding, line ends, delimiter, header. Every choice is said."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib

import numpy as np

from device_runtime.errors import InputError
from device_runtime.series.cells import Cells, Column
from device_runtime.series.header import split_head

SAID = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
MAX_CELL = 131_072  # characters; the csv module's own limit


def unpack(data: bytes, where: str, *, limit: int | None = None) -> bytes:
    """Return the bytes, unpacked where they are gzip. Raises `InputError` for a damaged file, or over ``limit``."""
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(-1 if limit is None else limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"{where} cannot be read: {error}", hint="it is damaged or cut off: copy it again"
            ) from error
    if limit is not None and len(data) > limit:
        raise InputError(f"{where}: more than {limit:,} bytes", hint="forecast fewer series at a time")
    return data


def decode(data: bytes, where: str) -> tuple[str, tuple[str, ...]]:
    """Return text with ``\\n`` line ends, and what to say about its encoding.

    UTF-8 with or without a byte order mark, UTF-16 with one; other bytes are read as Windows-1252, the usual
    encoding of exports that are not UTF-8. Raises `InputError` for what is no text.
    """
    notes: tuple[str, ...] = ()
    mark, encoding = next((one for one in _MARKS if data.startswith(one[0])), (b"", "utf-8"))
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if mark:
            raise InputError(
                f"{where}: byte {error.start + len(mark)} is not {encoding.upper()}, which its first bytes announce",
                hint="the file is damaged or cut off: export it again, as UTF-8",
            ) from error
        text = _windows(data, error.start, where)
        notes = (f"byte {error.start} is not UTF-8: read as Windows-1252 (Latin-1)",)
    if encoding != "utf-8":
        notes = (f"read as {encoding.upper()}",)
    if "\0" in text:
        raise InputError(
            f"{where}: character {text.index(chr(0))} is a NUL byte: no text file, or UTF-16 without a byte order mark",
            hint="save it as UTF-8",
        )
    return (text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text), notes


def _windows(data: bytes, at: int, where: str) -> str:
    refused = InputError(f"{where} is not UTF-8 text: byte {at}", hint="save it as UTF-8")
    if b"\0" in data:
        raise refused
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise refused from error


def read_csv(data: bytes, where: str, *, limit: int | None = None) -> Cells:
    """Read a table of text. Raises `InputError` for what is no text, has no rows, or is no regular table."""
    text, notes = decode(unpack(data, where, limit=limit), where)
    names, delimiter, body, first, more = split_head(text, where)
    columns, lines = split_rows(body, names, delimiter, where, first)
    return Cells(
        source=where,
        columns=columns,
        rows=len(lines),
        where=lambda row: f"{where}, line {lines[row]}",
        delimiter=delimiter,
        commas=may_hold_commas(body, delimiter),
        notes=(*notes, *more),
    )


def split_rows(
    body: str, names: list[str], delimiter: str, where: str, first: int
) -> tuple[dict[str, Column], list[int]]:
    """Return the columns of a table's rows and the line of each; ``first`` is the line that ``body`` begins on.

    Blank lines are passed over, but where there is one column: there they are empty cells. Raises `InputError` where
    there is no row, and naming the line of one that is longer or shorter than the header.
    """
    lines: list[int] = []
    rows: list[list[str]] = []
    reader = csv.reader(
        io.StringIO(body.rstrip("\n"), newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        for row in reader:
            cells = row or [""]
            if len(cells) != len(names):
                if len(cells) == 1 and not cells[0].strip():
                    continue
                raise ragged(where, reader.line_num + first - 1, len(cells), len(names))
            rows.append(cells)
            lines.append(reader.line_num + first - 1)
    except csv.Error as error:
        raise InputError(
            f"{where} is not a regular table: line {reader.line_num + first - 1}: {error}",
            hint="a quote is open there, or the file is cut off",
        ) from error
    if not any(map(any, rows)):
        raise InputError(f"{where} has column names but no rows")
    columns: dict[str, Column] = {}
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        columns[name] = np.empty(len(rows), dtype=object)
        columns[name][:] = column
    return columns, lines


def may_hold_commas(body: str, delimiter: str) -> bool:
    """Return whether some cell of a table may hold a comma."""
    return '"' in body if delimiter == "," else "," in body


def ragged(where: str, line: int, got: int, wanted: int) -> InputError:
    """Return the error of a row that is longer or shorter than the header."""
    return InputError(
        f"{where} is not a regular table: line {line} has {got} fields, the header {wanted}",
        hint="the first line names the columns: take out the lines before those (a title, notes without #)"
        if wanted == 1
        else "the file is cut off there, or a field holds the delimiter and no quotes",
    )
