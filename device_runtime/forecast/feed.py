"""A live feed's lines to samples: bytes in, for no byte of a serial line may stop the stream."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import BinaryIO

from device_runtime.errors import InputError

MAX_LINE = 4_096  # bytes; a feed that lost its line ends must not fill the memory
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_TIME = re.compile(r"[+-]?\d{1,18}", re.ASCII)


def read_lines(feed: BinaryIO) -> Iterator[bytes]:
    """Yield the feed's lines as they come; of one longer than `MAX_LINE` its beginning, a byte more than that."""
    while line := feed.readline(MAX_LINE + 1):
        yield line
        while len(line) > MAX_LINE and not line.endswith(b"\n"):  # the rest of it is no line
            line = feed.readline(MAX_LINE + 1)


def read_sample(line: bytes, number: int) -> tuple[str, int, float]:
    """Read line ``number``, ``name,t_ms,value``: the signal's name, the time in milliseconds, NaN for an empty value.

    Raises `InputError` naming the line and what it holds.
    """
    if len(line) > MAX_LINE:
        raise InputError(f"line {number}: more than {MAX_LINE:,} bytes without an end")
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError as error:
        shown = line.strip()[:80].decode("ascii", "backslashreplace")
        raise InputError(f"line {number}: byte {error.start + 1} is no UTF-8 text: {shown}") from error
    fields = [field.strip() for field in text.split(",")]
    if len(fields) == 3 and _TIME.fullmatch(fields[1]) and (not fields[2] or _NUMBER.fullmatch(fields[2])):
        return fields[0], int(fields[1]), float(fields[2]) if fields[2] else math.nan
    raise InputError(f"line {number}: want name,t_ms,value, got {text[:80]!r}")
