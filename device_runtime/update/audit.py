"""The device's log: one JSON line for each change, chained by SHA-256, so that a missing or altered line shows.

The state record carries the last entries itself and commits them, so the log has exactly what was committed. After the
commit they are written to the log's file; entries that a power cut or a full disk kept out of it are *owed* and written
with the next change. An incomplete last line is cut off; complete lines are never rewritten. A log that is full, or
cannot be read, is renamed to the older one. Format: ``<sha256 of previous hash and body> <body>``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from device_runtime.errors import ChecksumError, DeviceRuntimeError, FormatError
from device_runtime.files import IrregularError
from device_runtime.update.disk import Disk
from device_runtime.update.sealed import to_json

LOG, OLDER = "audit.log", "audit.older.log"
MAX_SIZE = 1_048_576  # bytes; then the log becomes the older one, and that one goes
MAX_LINE = 4_096  # bytes
MAX_TEXT = 600  # bytes of one text, as written
MAX_OWED = 9_216  # bytes of the entries that the record carries
START = "0" * 64  # what the first line follows


@dataclass(frozen=True, kw_only=True)
class Line:
    """One verified entry."""

    hash: str
    body: dict[str, Any]


def link(previous: str, body: bytes) -> str:
    """Return the hash of an entry that follows ``previous``."""
    return hashlib.sha256(previous.encode() + body).hexdigest()


def read_lines(data: bytes, *, previous: str | None = None) -> Iterator[Line]:
    """Verify a log and give its entries. Raises `ChecksumError` at the first line that does not follow.

    ``previous`` is the hash the first line must follow; None takes what the line itself says it follows (a log whose
    older part was dropped). A torn last line, without a line's end, is not an entry.
    """
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        digest, _, body = line.partition(b" ")
        try:
            value = json.loads(body)
            follows = str(value["follows"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ChecksumError(f"audit log line {number}: not an entry: {error}") from error
        if (previous is not None and follows != previous) or link(follows, body).encode() != digest:
            raise ChecksumError(
                f"audit log line {number}: the chain is broken", hint="a line was altered, removed or inserted"
            )
        previous = digest.decode()
        yield Line(hash=previous, body=value)


class Audit:
    """The log's files, and the last entries, which the record carries."""

    def __init__(self, disk: Disk, carried: tuple[Line, ...] = ()) -> None:
        self.disk, self.carried = disk, carried
        self._written: str | None = None  # hash of the files' last line; None: not looked at yet

    @property
    def head(self) -> str:
        """Hash of the last entry: what a report carries, so that a later export can be held against it."""
        return self.carried[-1].hash if self.carried else self._last_written() or START

    @property
    def owed(self) -> tuple[Line, ...]:
        """The entries that are committed and not in the files yet."""
        return self._behind(self._last_written())

    def _behind(self, written: str) -> tuple[Line, ...]:
        """Return the carried entries behind the one of hash ``written``: all, where the files do not end with one."""
        hashes = [line.hash for line in self.carried]
        return self.carried[hashes.index(written) + 1 :] if written in hashes else self.carried

    def entry(self, event: str, **facts: Any) -> Line:
        """Make the next entry; texts are cut to keep the line small. It counts once a record that carries it is."""
        facts = {name: short(value) if isinstance(value, str) else value for name, value in facts.items()}
        made = _line({"event": event, "follows": self.head, **facts})
        assert len(to_json(made.body)) < MAX_LINE, "callers log a handful of short facts"
        return made

    def with_entry(self, line: Line) -> tuple[Line, ...]:
        """Return what the next record carries: what is owed, and ``line``.

        Beyond `MAX_OWED` the newest entries become one that says how many changes it stands for.
        """
        lines = [*self.owed, line]
        while sum(len(to_json(one.body)) for one in lines) > MAX_OWED and len(lines) > 1:
            last, before = lines.pop(), lines.pop()
            stands = sum(int(one.body.get("stands_for", 1)) for one in (before, last))
            lines.append(_line({**last.body, "follows": before.body["follows"], "stands_for": stands}))
        return tuple(lines)

    def flush(self) -> None:
        """Write what is owed, durably. Raises `StorageError`: then it stays owed."""
        if self._written is not None and not self._behind(self._written):
            return
        self._written = None  # whatever fails from here on may have left half a line: look again
        try:
            data = self.disk.read(LOG, 2 * MAX_SIZE) or b""
        except (FormatError, IrregularError):  # too long to be ours, or no file
            self._roll()
            data = b""
        size = data.rfind(b"\n") + 1
        owed = self._behind(_last(data[:size]) or self._last_of(OLDER))
        if size != len(data):
            self.disk.cut(LOG, size)
        lines = b"".join(one.hash.encode() + b" " + to_json(one.body) + b"\n" for one in owed)
        if size + len(lines) > MAX_SIZE:
            self._roll()
            size = 0
        if lines:
            self.disk.append(LOG, lines)
            self.disk.sync(LOG)
            if not size:
                self.disk.sync_folder("")
        self._written = self.head

    def _roll(self) -> None:
        """Make the log the older one."""
        self.disk.rename(LOG, OLDER)
        self.disk.sync_folder("")

    def _last_written(self) -> str:
        """Return the hash of the last whole line in the files; empty where there is none that can be read."""
        return self._written or self._last_of(LOG) or self._last_of(OLDER)

    def _last_of(self, name: str) -> str:
        """Return the hash of a file's last whole line."""
        try:
            data = self.disk.read(name, 2 * MAX_SIZE) or b""
        except DeviceRuntimeError:
            return ""
        return _last(data[: data.rfind(b"\n") + 1])

    def last_generation(self) -> int:
        """Return the highest generation that the log has seen; -1 where it does not say."""
        try:
            lines = (self.disk.read(LOG, 2 * MAX_SIZE) or self.disk.read(OLDER, 2 * MAX_SIZE) or b"").split(b"\n")
        except DeviceRuntimeError:
            return -1
        found = -1
        for line in lines[-20:]:
            try:
                value = json.loads(line.partition(b" ")[2])["generation"]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            found = max(found, value) if type(value) is int else found
        return found

    def export(self) -> bytes:
        """Return the whole log, older part first, without a torn line and with what is owed."""
        data = b""
        for name in (OLDER, LOG):
            try:
                part = self.disk.read(name, 2 * MAX_SIZE) or b""
            except (FormatError, IrregularError):  # too long to be ours, or no file
                continue
            data += part[: part.rfind(b"\n") + 1]
        return data + b"".join(one.hash.encode() + b" " + to_json(one.body) + b"\n" for one in self.owed)


def _last(whole: bytes) -> str:
    """Return the hash of the last of whole lines; empty where there is none."""
    return whole.rstrip(b"\n").rpartition(b"\n")[2].partition(b" ")[0].decode("ascii", "replace")


def to_value(lines: tuple[Line, ...]) -> list[dict[str, Any]]:
    """Encode entries for the record that carries them."""
    return [line.body for line in lines]


def from_value(value: Any) -> tuple[Line, ...]:
    """Decode the entries that a record carries. Raises `FormatError`."""
    try:
        lines = tuple(_line({**body, "follows": str(body["follows"])}) for body in value)
        most = max((len(to_json(line.body)) for line in lines), default=0)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"state record: log: {error!r}") from error
    if most >= MAX_LINE:
        raise FormatError(f"state record: log: an entry of {most} bytes, want less than {MAX_LINE}")
    for line in lines:
        stands = line.body.get("stands_for", 1)
        if type(stands) is not int or stands < 1:
            raise FormatError(f"state record: log: stands_for: want a whole number from 1 on, got {stands!r}"[:200])
    if any(later.body["follows"] != line.hash for line, later in pairwise(lines)):
        raise FormatError("state record: log: entries do not follow one another")
    return lines


def _line(body: dict[str, Any]) -> Line:
    return Line(hash=link(str(body["follows"]), to_json(body)), body=body)


def short(text: str) -> str:
    """Cut a text to `MAX_TEXT` bytes of JSON: a character outside of ASCII takes six or twelve."""
    while len(to_json(text)) > MAX_TEXT:
        text = text[: len(text) * MAX_TEXT // len(to_json(text))]
    return text
