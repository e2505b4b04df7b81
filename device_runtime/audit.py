"""The device's log: one JSON line for each change, chained by SHA-256, so that a missing or altered line shows.

An entry is written *before* the change it announces; the change's generation is in it, so a reader sees which one never
came to pass (the next entry has the same generation). A line that a power cut tore off is dropped when the log is next
written; whole lines are never rewritten. Format: ``<sha256 of previous hash and body> <body>``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from device_runtime.disk import Disk, replace
from device_runtime.errors import ChecksumError
from device_runtime.sealed import to_json

LOG, OLDER = "audit.log", "audit.older.log"
MAX_SIZE = 1_048_576  # bytes; then the log becomes the older one, and that one goes
MAX_LINE = 4_096  # bytes
MAX_TEXT = 600  # bytes of one text, as written
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
                f"audit log line {number}: the chain is broken", hint="a line was altered, removed or put in"
            )
        previous = digest.decode()
        yield Line(hash=previous, body=value)


class Audit:
    """Appends to the log, durably, and reads it back."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._torn: bytes | None = None
        self._size = 0
        self._head = ""  # not read yet: a forecast asks for the record alone, thousands of times

    def _read(self) -> None:
        """Find where the log ends."""
        data = self.disk.read(LOG, 2 * MAX_SIZE) or b""
        whole = data[: data.rfind(b"\n") + 1]
        self._torn = whole if whole != data else None
        self._size = len(whole)
        self._head = _last(whole) or _last(self.disk.read(OLDER, 2 * MAX_SIZE) or b"") or START

    @property
    def head(self) -> str:
        """Hash of the last entry: what a report carries, so that a later export can be held against it."""
        if not self._head:
            self._read()
        return self._head

    def append(self, event: str, **facts: Any) -> None:
        """Write one entry durably; texts are cut to keep the line small. Raises `StorageError`."""
        facts = {name: _short(value) if isinstance(value, str) else value for name, value in facts.items()}
        previous = self.head
        self._head = ""  # whatever fails from here on may have left half a line: the next entry looks again
        body = to_json({"event": event, "follows": previous, **facts})
        assert len(body) < MAX_LINE, "callers log a handful of short facts"
        digest = link(previous, body)
        line = digest.encode() + b" " + body + b"\n"
        if self._torn is not None:
            replace(self.disk, LOG, self._torn)
            self._torn = None
        if self._size + len(line) > MAX_SIZE:
            self.disk.rename(LOG, OLDER)
            self.disk.sync_folder("")
            self._size = 0
        created = self._size == 0
        self.disk.append(LOG, line)
        self.disk.sync(LOG)
        if created:
            self.disk.sync_folder("")
        self._head, self._size = digest, self._size + len(line)

    def export(self) -> bytes:
        """Return the whole log, older part first, without a torn line."""
        data = (self.disk.read(OLDER, 2 * MAX_SIZE) or b"") + (self.disk.read(LOG, 2 * MAX_SIZE) or b"")
        return data[: data.rfind(b"\n") + 1]


def _short(text: str) -> str:
    """Cut a text to `MAX_TEXT` bytes of JSON: a character outside of ASCII takes six or twelve."""
    while len(to_json(text)) > MAX_TEXT:
        text = text[: len(text) * MAX_TEXT // len(to_json(text))]
    return text


def _last(data: bytes) -> str | None:
    """Return the hash of the last whole line."""
    lines = data.split(b"\n")[:-1]
    return lines[-1].partition(b" ")[0].decode("ascii", "replace") if lines else None
