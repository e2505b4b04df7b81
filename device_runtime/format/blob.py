"""The adapter blob (``.etsa``): encoder and decoder side by side. FORMAT.md §3–§7 is the specification.

`device_runtime.format.groups` has the records that change tensors, `device_runtime.format.extras` all others. Reader
rules are numbered R1…R25; an error names the rule it enforces.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from device_runtime.errors import CanonicalError, ChecksumError, FormatError, SizeError, UnsupportedError
from device_runtime.format import layout
from device_runtime.format.adapter import Adapter
from device_runtime.format.blocks import require
from device_runtime.format.delta import Delta
from device_runtime.format.extras import EXTRA_READERS, extra_records
from device_runtime.format.groups import entries_of, group_records, read_group
from device_runtime.format.layout import BlobRecord, Kind

# --- encoder -----------------------------------------------------------------------------------------------------


def encode(adapter: Adapter) -> bytes:
    """Write an adapter as its one canonical byte string. Raises `SizeError` over a limit of the format."""
    parts = [*group_records(adapter.deltas), *extra_records(adapter)]
    # Explicit entries are compared as bytes where two groups share everything else.
    parts.sort(key=lambda part: (part[0].key, entries_of(*part)))
    offset = layout.HEADER.size + layout.RECORD.size * len(parts)
    table, body = bytearray(), bytearray()
    for record, data in parts:
        table += BlobRecord(**{**vars(record), "offset": offset + len(body)}).pack()
        body += data
    total = offset + len(body)
    if total > layout.MAX_BLOB_SIZE or len(parts) > layout.MAX_RECORDS:
        raise SizeError(
            f"adapter: {total} bytes in {len(parts)} records, "
            f"want at most {layout.MAX_BLOB_SIZE} in {layout.MAX_RECORDS}"
        )
    header = layout.HEADER.pack(
        layout.MAGIC,
        layout.UNBOUND_VERSION if adapter.binding is None else layout.FORMAT_VERSION,
        layout.HEADER.size,
        total,
        len(parts),
        layout.FLAG_FORCED if adapter.forced else 0,
        adapter.base_digest,
        adapter.version,
        0,
        0,
    )
    blob = header + bytes(table) + bytes(body)
    return blob[: layout.CRC_OFFSET] + struct.pack("<I", checksum(blob)) + blob[layout.HEADER.size :]


def checksum(blob: bytes) -> int:
    """CRC-32 (IEEE 802.3, as zlib) of everything but the checksum itself."""
    return zlib.crc32(blob[layout.HEADER.size :], zlib.crc32(blob[: layout.CRC_OFFSET]))


# --- decoder -----------------------------------------------------------------------------------------------------


def decode(blob: bytes) -> Adapter:
    """Read an adapter from exactly one blob, checking every rule of FORMAT.md before allocating for it.

    Raises `FormatError` (or its `ChecksumError`, `SizeError`, `CanonicalError`) and `UnsupportedError`; nothing else.
    """
    version, flags, base_digest, records = _table(blob)
    bound = blob_version(blob) != layout.UNBOUND_VERSION
    deltas: dict[int, Delta] = {}
    extras: dict[str, Any] = {}
    previous: tuple[tuple[int, ...], bytes] | None = None
    for number, record in enumerate(records):
        where = f"record {number}"
        entries = b""
        if record.kind in EXTRA_READERS and (bound or record.kind != Kind.BINDING):
            require(record.tensor_count == 0, f"R13: {where}: kind {record.kind} names no tensors")
            require(
                previous is None or previous[0][0] != record.kind,
                f"R25: {where}: a second record of kind {record.kind}",
            )
            name, value = EXTRA_READERS[record.kind](blob, record, where)
            extras[name] = value
        else:
            group, entries = read_group(blob, record, where)
            for index, delta in group.items():
                require(index not in deltas, f"R12: {where}: tensor {index} has two deltas")
                deltas[index] = delta
        order = (record.key, entries)
        if previous is not None and order <= previous:
            raise CanonicalError(f"R9: {where}: records are not in ascending order")
        previous = order
    require(bool(deltas), "R10: the adapter has no delta")
    require("binding" in extras or not bound, "R25: the adapter does not say which signal it is for")
    return Adapter(
        base_digest=base_digest, version=version, deltas=deltas, forced=bool(flags & layout.FLAG_FORCED), **extras
    )


def blob_size(data: bytes) -> int:
    """Return how many of ``data``'s bytes are the blob; the rest are signatures. Checks R1–R3 only."""
    if len(data) < layout.HEADER.size:
        raise SizeError(f"R1: want at least {layout.HEADER.size} bytes, got {len(data)}")
    if data[:4] != layout.MAGIC:
        raise FormatError(f"R2: not an adapter blob: want magic {layout.MAGIC!r}, got {data[:4]!r}")
    total = int.from_bytes(data[8:12], "little")
    if not layout.HEADER.size <= total <= layout.MAX_BLOB_SIZE:
        raise SizeError(f"R3: total_size {total}: want {layout.HEADER.size} to {layout.MAX_BLOB_SIZE}")
    if total > len(data):
        raise SizeError(f"R3: total_size {total}, but there are only {len(data)} bytes")
    return total


def read_header(blob: bytes) -> tuple[bytes, int]:
    """Return the base digest and the version of a blob before anything in it is decoded (FORMAT.md §11).

    Raises `ChecksumError` (R4); R1 to R3 are `blob_size`'s.
    """
    if checksum(blob) != int.from_bytes(blob[layout.CRC_OFFSET : layout.CRC_OFFSET + 4], "little"):
        raise ChecksumError("R4: the adapter is damaged: its checksum does not match")
    header = layout.HEADER.unpack_from(blob)
    return header[6], header[7]


def blob_version(blob: bytes) -> int:
    """Return the format version that a blob's header states."""
    return int.from_bytes(blob[4:6], "little")


def _table(blob: bytes) -> tuple[int, int, bytes, list[BlobRecord]]:
    """Check header and record table: rules R1–R8."""
    total = blob_size(blob)
    if total != len(blob):
        raise SizeError(f"R3: total_size {total}, got {len(blob)} bytes")
    _, format_version, header_size, _, count, flags, digest, version, reserved, crc = layout.HEADER.unpack_from(blob)
    if crc != checksum(blob):
        raise ChecksumError(f"R4: checksum {checksum(blob):08x}, header says {crc:08x}: the blob is damaged")
    if format_version not in (layout.UNBOUND_VERSION, layout.FORMAT_VERSION):
        raise UnsupportedError(
            f"R5: format version {format_version}; this runtime reads {layout.UNBOUND_VERSION} and "
            f"{layout.FORMAT_VERSION}"
        )
    require(header_size == layout.HEADER.size, f"R6: header_size {header_size}, want {layout.HEADER.size}")
    require(reserved == 0 and flags & ~layout.FLAG_FORCED == 0, "R6: reserved header bits are not zero")
    if not 1 <= count <= layout.MAX_RECORDS:
        raise SizeError(f"R7: {count} records, want 1 to {layout.MAX_RECORDS}")
    position = layout.HEADER.size + count * layout.RECORD.size
    if position > total:
        raise SizeError(f"R7: the table of {count} records ends at {position}, after the blob")
    records = [BlobRecord.unpack(blob, layout.HEADER.size + i * layout.RECORD.size) for i in range(count)]
    for number, record in enumerate(records):
        if record.offset != position:
            raise SizeError(f"R8: record {number}: data at {record.offset}, want {position} (no holes, no overlap)")
        position += record.size
        if position > total:
            raise SizeError(f"R8: record {number}: data ends at {position}, after the blob")
    if position != total:
        raise SizeError(f"R8: data end at {position}, the blob at {total}")
    return version, flags, digest, records
