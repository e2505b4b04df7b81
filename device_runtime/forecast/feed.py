"""From the lines of a live feed to samples. Input is bytes, so that no byte of a serial line can stop the stream."""

from __future__ import annotations

import io
import math
import os
import re
import select
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from device_runtime.errors import InputError

MAX_LINE = 4_096  # bytes; a feed that lost its line ends must not fill the memory
MAX_ITEM = 128  # characters
END = "end"
CHUNK = 65_536  # bytes read at a time
AT_END = 64  # times that idle work is asked for behind the last line
PAUSE, LONG_PAUSE = 1.0, 60.0  # seconds until it is asked again whether there is something to do, while no line comes
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_TIME = re.compile(r"[+-]?\d{1,18}", re.ASCII)


def read_lines(feed: BinaryIO) -> Iterator[bytes]:
    """Yield the feed's lines as they come; of one longer than `MAX_LINE` its beginning, a byte more than that."""
    while line := feed.readline(MAX_LINE + 1):
        yield line
        while len(line) > MAX_LINE and not line.endswith(b"\n"):  # the rest of it is no line
            line = feed.readline(MAX_LINE + 1)


def read_lines_between(feed: BinaryIO, idle: Callable[[Callable[[], bool]], bool]) -> Iterator[bytes]:
    """Yield the feed's lines as `read_lines` does; while none waits, let ``idle`` do something else.

    ``idle`` is told how to ask whether a line waits, and says whether more is left to do. Behind the last line it is
    called until nothing is, or it does no more by itself. A feed that is no file of the system's is read without.
    """
    try:
        handle = feed.fileno()
    except (OSError, io.UnsupportedOperation, AttributeError):
        yield from read_lines(feed)
        return
    held = bytearray()

    def waits(seconds: float = 0.0) -> bool:
        return bool(select.select([handle], [], [], seconds)[0])

    while True:
        if not waits():
            waits(PAUSE if idle(waits) else LONG_PAUSE)
            continue
        chunk = os.read(handle, CHUNK)
        held += chunk
        yield from _whole_lines(held, last=not chunk)
        if not chunk:
            break
    for _ in range(AT_END):
        if not idle(lambda: False):
            break


def _whole_lines(held: bytearray, *, last: bool) -> Iterator[bytes]:
    """Take the whole lines out of what was read; of one longer than `MAX_LINE` its beginning, a byte more than that."""
    begin = 0
    while (end := held.find(b"\n", begin)) >= 0:
        yield bytes(held[begin : min(end + 1, begin + MAX_LINE + 1)])
        begin = end + 1
    del held[:begin]
    if last and held:
        yield bytes(held[: MAX_LINE + 1])
    elif len(held) > 2 * MAX_LINE:  # a line without an end does not fill the memory
        del held[MAX_LINE + 1 :]


class Event(NamedTuple):
    """What one line says: a sample, or that a stay is over."""

    name: str  # the signal's, as the feed calls it
    t_ms: int
    value: float  # NaN for an empty one
    item: str | None = None  # whose the sample is, where the line says it: another one begins another stay
    ends: bool = False  # no sample: the stay is over


def read_event(line: bytes, number: int) -> Event:
    """Read line ``number``: ``name,t_ms,value``, the same with ``,item`` behind it, or ``name,t_ms,end``.

    Raises `InputError` naming the line and what it holds.
    """
    fields = _fields(line, number)
    if len(fields) == 3 and fields[2].lower() == END and _TIME.fullmatch(fields[1]):
        return Event(fields[0], int(fields[1]), math.nan, ends=True)
    if len(fields) == 4 and 1 <= len(fields[3]) <= MAX_ITEM and fields[3].isprintable():
        return Event(*_sample(fields[:3], fields, number), item=fields[3])
    return Event(*_sample(fields, fields, number))


def _fields(line: bytes, number: int) -> list[str]:
    """Take a line apart. Raises `InputError`."""
    if len(line) > MAX_LINE:
        raise InputError(f"line {number}: more than {MAX_LINE:,} bytes without an end")
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError as error:
        shown = line.strip()[:80].decode("ascii", "backslashreplace")
        raise InputError(f"line {number}: byte {error.start + 1} is not UTF-8 text: {shown}") from error
    return [field.strip() for field in text.split(",")]


def _sample(fields: list[str], whole: list[str], number: int) -> tuple[str, int, float]:
    """Read a sample's three fields. Raises `InputError` that shows the ``whole`` line."""
    if len(fields) == 3 and _TIME.fullmatch(fields[1]) and (not fields[2] or _NUMBER.fullmatch(fields[2])):
        return fields[0], int(fields[1]), float(fields[2]) if fields[2] else math.nan
    raise InputError(f"line {number}: want name,t_ms,value, got {','.join(whole)[:80]!r}")
