"""Which other files an ONNX graph opens: the locations of its external tensors, parsed from the protobuf bytes.

A graph may keep tensors in other files. Only files that the manifest pins belong to the base; a graph that names any
other would run on unchecked bytes (FORMAT.md §2). The parser needs no onnx package and reads no weights: a message
without the word "location" cannot name a file.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator

from device_runtime.errors import FormatError

Bytes = bytes | mmap.mmap

MAX_DEPTH = 64  # of messages in messages: a graph in a node's attribute is three deeper
PLACE = b"location"
# Message kind -> field number -> kind of the message in that field (onnx.proto3).
FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
KEY, VALUE = 1, 2  # of an entry
# How a field is written: its size in bytes, but for the two kinds whose size is in the bytes.
NUMBER, TEXT = 0, 2
FIXED = {1: 8, 5: 4}


def check_external_files(graph: Bytes, pinned: Collection[str], where: str) -> None:
    """Refuse a graph that keeps tensors in a file that is not pinned. Raises `FormatError`, also for no protobuf."""
    if graph[4:8] == b"ORTM":  # ONNX Runtime knows its own format by these bytes, whatever the file's name
        raise FormatError(f"{where}: an ORT model, want ONNX")
    for place in external_files(graph, where):
        if place not in pinned:
            raise FormatError(
                f"{where}: keeps a tensor in {place[:80]!r}, which is not among the manifest's files",
                hint="export the base again: every file that a graph opens is pinned",
            )


def external_files(graph: Bytes, where: str) -> list[str]:
    """Return every location of a tensor outside of the graph, as often as it is said. Raises `FormatError`."""
    found: list[str] = []
    _walk(graph, 0, len(graph), "model", 0, found, where)
    return found


def _walk(data: Bytes, start: int, end: int, kind: str, depth: int, found: list[str], where: str) -> None:
    """Visit the messages of a message in which a location may be."""
    if depth > MAX_DEPTH:
        raise FormatError(f"{where}: messages nested deeper than {MAX_DEPTH}")
    if kind == "entry":
        texts: dict[int, list[bytes]] = {KEY: [], VALUE: []}
        for field, first, last in _fields(data, start, end, where):
            if field in texts:
                texts[field].append(data[first:last])
        if PLACE in texts[KEY]:  # a field that comes twice counts as its last: no reader of ours depends on it
            found.extend(text.decode("utf-8", "backslashreplace") for text in texts[VALUE] or [b""])
        return
    inner = FIELDS[kind]
    for field, first, last in _fields(data, start, end, where):
        if field in inner and data.find(PLACE, first, last) >= 0:
            _walk(data, first, last, inner[field], depth + 1, found, where)


def _fields(data: Bytes, at: int, end: int, where: str) -> Iterator[tuple[int, int, int]]:
    """Yield number, first and last byte of every field that holds text, bytes or a message."""
    while at < end:
        begin = at
        tag, at = _varint(data, at, end, where)
        if tag >= 2**32 or at - begin > 5:  # readers keep 32 bits of it: another field to them than here
            raise FormatError(f"{where}: not a model: a field number that is too large")
        form = tag & 7
        if form == TEXT:
            size, at = _varint(data, at, end, where)
            if size > end - at:
                raise FormatError(f"{where}: not a model: a field runs past its message")
            yield tag >> 3, at, at + size
            at += size
        elif form == NUMBER:
            _, at = _varint(data, at, end, where)
        elif form in FIXED and FIXED[form] <= end - at:
            at += FIXED[form]
        else:
            raise FormatError(f"{where}: not a model: a field of form {form}")


def _varint(data: Bytes, at: int, end: int, where: str) -> tuple[int, int]:
    """Read a number of at most ten bytes; return it and where it ends."""
    value = 0
    for place in range(10):
        if at + place >= end:
            break
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value & (2**64 - 1), at + place + 1
    raise FormatError(f"{where}: not a model: a number that does not end")
