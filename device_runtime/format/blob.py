"""The adapter blob (``.etsa``): encoder and decoder side by side. FORMAT.md §3–§7 is the specification.

A record is a *group* of tensors of one shape treated alike, so that what they share is said once.
Reader rules are numbered R1…R25; an error names the rule it enforces.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import (
    CanonicalError,
    ChecksumError,
    FormatError,
    SizeError,
    UnsupportedError,
)
from device_runtime.format import canonical, layout
from device_runtime.format.adapter import Adapter, Calibration, KnownAnswer
from device_runtime.format.binding import Binding, CodeSystem
from device_runtime.format.delta import INTEGER_LIMIT, Delta, Dense, Dtype, Fourier, LowRank, Numbers, Vera
from device_runtime.format.layout import DtypeCode, Kind, Record
from device_runtime.format.varint import decode_gaps, encode_gaps

DTYPE_CODE: dict[str, DtypeCode] = {"float32": DtypeCode.FLOAT32, "int16": DtypeCode.INT16, "int8": DtypeCode.INT8}
DTYPE_NAME: dict[int, Dtype] = {DtypeCode.FLOAT32: "float32", DtypeCode.INT16: "int16", DtypeCode.INT8: "int8"}
INTEGERS = (DtypeCode.INT16, DtypeCode.INT8)
NUMBERS = (DtypeCode.FLOAT32, *INTEGERS)


# --- encoder -----------------------------------------------------------------------------------------------------


def encode(adapter: Adapter) -> bytes:
    """Write an adapter as its one canonical byte string. Raises `SizeError` over a limit of the format."""
    groups: dict[tuple[Any, ...], list[tuple[int, bytes]]] = {}
    for index, delta in adapter.deltas.items():
        key, numbers = _describe(delta)
        groups.setdefault(key, []).append((index, numbers))
    parts: list[tuple[Record, bytes]] = []
    for (kind, rows, columns, count, dtype, seed, scaling, entries), members in groups.items():
        indices = np.array([index for index, _ in members], dtype="<u2").tobytes()
        data = indices + entries + b"".join(numbers for _, numbers in members)
        parts.append((_record(kind, dtype, len(members), rows, columns, count, seed, scaling, data), data))
    parts += _extras(adapter)
    # Explicit entries are compared as bytes where two groups share everything else.
    parts.sort(key=lambda part: (part[0].key, _entries_of(part)))
    offset = layout.HEADER.size + layout.RECORD.size * len(parts)
    table, body = bytearray(), bytearray()
    for record, data in parts:
        table += Record(**{**vars(record), "offset": offset + len(body)}).pack()
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


def _record(
    kind: int,
    dtype: int,
    tensor_count: int,
    rows: int,
    columns: int,
    count: int,
    seed: int,
    scaling: float,
    data: bytes,
) -> Record:
    """Make a record whose offset is not known yet."""
    return Record(
        kind=kind,
        dtype=dtype,
        tensor_count=tensor_count,
        rows=rows,
        columns=columns,
        count=count,
        seed=seed,
        scaling=scaling,
        offset=0,
        size=len(data),
    )


def _describe(delta: Delta) -> tuple[tuple[Any, ...], bytes]:
    """Say which group a delta belongs to, and its own bytes in it."""
    match delta:
        case Dense():
            head = (Kind.DENSE, *delta.shape, 0, DTYPE_CODE[delta.numbers.dtype], 0, 0.0, b"")
            return head, _pack(delta.numbers)
        case Fourier(explicit=None):
            count, code = delta.parameters, DTYPE_CODE[delta.coefficients.dtype]
            return (Kind.FOURIER, *delta.shape, count, code, delta.seed, _stored(delta.scaling), b""), _pack(
                delta.coefficients
            )
        case Fourier():
            count, code = delta.parameters, DTYPE_CODE[delta.coefficients.dtype]
            head = (
                Kind.FOURIER_EXPLICIT,
                *delta.shape,
                count,
                code,
                0,
                _stored(delta.scaling),
                encode_gaps(delta.entries),
            )
            return head, _pack(delta.coefficients)
        case LowRank():
            head = (
                Kind.LOW_RANK,
                *delta.shape,
                delta.a.stored.shape[0],
                DTYPE_CODE[delta.a.dtype],
                0,
                _stored(delta.scaling),
                b"",
            )
            return head, _pack(delta.a) + _pack(delta.b)
        case Vera():
            rank, code = delta.d.stored.size, DTYPE_CODE[delta.d.dtype]
            return (Kind.VERA, *delta.shape, rank, code, delta.seed, _stored(delta.scaling), b""), _pack(
                delta.d
            ) + _pack(delta.b)
        case _:
            raise TypeError(f"no record kind for {type(delta).__name__}")


def _stored(scaling: float) -> float:
    """Return a scaling as a record holds it: float32, and zero without a sign."""
    return float(np.float32(scaling)) + 0.0


def _pack(numbers: Numbers) -> bytes:
    """Write numbers: for integers the scale first, then row-major little-endian."""
    scale = b"" if numbers.dtype == "float32" else struct.pack("<f", numbers.scale)
    return scale + numbers.stored.astype(numbers.stored.dtype.newbyteorder("<")).tobytes()


def _extras(adapter: Adapter) -> list[tuple[Record, bytes]]:
    """Write the records that concern no tensor."""
    parts = []
    if adapter.calibration is not None:
        offsets = adapter.calibration.offsets
        rows, columns = offsets.stored.shape
        data = _pack(offsets)
        parts.append((_record(Kind.CALIBRATION, DTYPE_CODE[offsets.dtype], 0, rows, columns, 0, 0, 0.0, data), data))
    if adapter.known_answer is not None:
        answer = adapter.known_answer
        context, expected = answer.context.astype("<f4"), answer.expected.astype("<f4")
        data = context.tobytes() + expected.tobytes()
        head = (Kind.KNOWN_ANSWER, DtypeCode.FLOAT32, 0, len(context), len(expected), 0, 0, answer.tolerance)
        parts.append((_record(*head, data), data))
    if adapter.metadata:
        data = canonical.dumps(dict(adapter.metadata))
        parts.append((_record(Kind.METADATA, DtypeCode.NONE, 0, 0, 0, 0, 0, 0.0, data), data))
    if adapter.binding is not None:
        bound = adapter.binding
        texts = [text.encode("ascii") for text in (bound.code, bound.unit, bound.name)]
        data = layout.BINDING.pack(
            bound.interval_us, bound.low, bound.high, bound.code_system, *(len(text) for text in texts)
        ) + b"".join(texts)
        head = (Kind.BINDING, DtypeCode.NONE, 0, bound.context_length, bound.prediction_length, 0, 0, 0.0)
        parts.append((_record(*head, data), data))
    return parts


def _entries_of(part: tuple[Record, bytes]) -> bytes:
    """Explicit entries as stored, or nothing."""
    record, data = part
    if record.kind != Kind.FOURIER_EXPLICIT:
        return b""
    start = 2 * record.tensor_count
    _, end = decode_gaps(data, start, len(data), record.count, record.rows * record.columns)
    return data[start:end]


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
            _require(record.tensor_count == 0, f"R13: {where}: kind {record.kind} names no tensors")
            _require(
                previous is None or previous[0][0] != record.kind,
                f"R25: {where}: a second record of kind {record.kind}",
            )
            name, value = EXTRA_READERS[record.kind](blob, record, where)
            extras[name] = value
        else:
            group, entries = _read_group(blob, record, where)
            for index, delta in group.items():
                _require(index not in deltas, f"R12: {where}: tensor {index} has two deltas")
                deltas[index] = delta
        order = (record.key, entries)
        if previous is not None and order <= previous:
            raise CanonicalError(f"R9: {where}: records are not in ascending order")
        previous = order
    _require(bool(deltas), "R10: the adapter has no delta")
    _require("binding" in extras or not bound, "R25: the adapter does not say which signal it is for")
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
        raise SizeError(f"R3: total_size {total}, but only {len(data)} bytes are there")
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


def _require(condition: bool, message: str) -> None:
    """Enforce one reader rule."""
    if not condition:
        raise FormatError(message)


def _table(blob: bytes) -> tuple[int, int, bytes, list[Record]]:
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
    _require(header_size == layout.HEADER.size, f"R6: header_size {header_size}, want {layout.HEADER.size}")
    _require(reserved == 0 and flags & ~layout.FLAG_FORCED == 0, "R6: reserved header bits are not zero")
    if not 1 <= count <= layout.MAX_RECORDS:
        raise SizeError(f"R7: {count} records, want 1 to {layout.MAX_RECORDS}")
    position = layout.HEADER.size + count * layout.RECORD.size
    if position > total:
        raise SizeError(f"R7: the table of {count} records ends at {position}, after the blob")
    records = [Record.unpack(blob, layout.HEADER.size + i * layout.RECORD.size) for i in range(count)]
    for number, record in enumerate(records):
        if record.offset != position:
            raise SizeError(f"R8: record {number}: data at {record.offset}, want {position} (no holes, no overlap)")
        position += record.size
        if position > total:
            raise SizeError(f"R8: record {number}: data ends at {position}, after the blob")
    if position != total:
        raise SizeError(f"R8: data end at {position}, the blob at {total}")
    return version, flags, digest, records


class _Cursor:
    """Reads a record's data from front to back; running past the end is rule R15."""

    def __init__(self, blob: bytes, record: Record, where: str) -> None:
        self.blob, self.where = blob, where
        self.position, self.end = record.offset, record.offset + record.size

    def take(self, dtype: str, count: int) -> NDArray[Any]:
        """Read ``count`` little-endian numbers."""
        size = count * np.dtype(dtype).itemsize
        if self.position + size > self.end:
            raise SizeError(f"R15: {self.where}: {count} {dtype} do not fit at byte {self.position}")
        out = np.frombuffer(self.blob, dtype=dtype, count=count, offset=self.position)
        self.position += size
        return out

    def numbers(self, code: int, shape: tuple[int, ...]) -> Numbers:
        """Read one block of numbers (R16)."""
        name = DTYPE_NAME[code]
        scale = 1.0 if name == "float32" else float(self.take("<f4", 1)[0])
        stored = self.take({"float32": "<f4", "int16": "<i2", "int8": "<i1"}[name], int(np.prod(shape)))
        finite = np.isfinite(scale) and scale >= 0 and bool(np.isfinite(stored).all())
        _require(finite, f"R16: {self.where}: a number or scale is not finite, or a scale is negative")
        if name != "float32":
            _require(
                int(stored.min(initial=0)) >= -INTEGER_LIMIT[name],
                f"R16: {self.where}: the smallest {name} is not used",
            )
        # A negative zero would be a second encoding of zero.
        _require(not (scale == 0 and np.signbit(scale)), f"R16: {self.where}: the scale is a negative zero")
        return Numbers(np.ascontiguousarray(stored.reshape(shape).astype(name)), scale)

    def finish(self) -> None:
        """Refuse left-over bytes (R15)."""
        if self.position != self.end:
            raise SizeError(f"R15: {self.where}: {self.end - self.position} bytes are left over")


def _read_group(blob: bytes, record: Record, where: str) -> tuple[dict[int, Delta], bytes]:
    """Read a record of deltas: rules R11–R20. Also return its explicit entries as bytes."""
    if record.kind not in GROUP_READERS:
        raise UnsupportedError(f"R11: {where}: record kind {record.kind} is not known")
    _require(1 <= record.tensor_count <= layout.MAX_TENSORS, f"R13: {where}: {record.tensor_count} tensors")
    within = 1 <= record.rows <= layout.MAX_DIMENSION and 1 <= record.columns <= layout.MAX_DIMENSION
    _require(within, f"R14: {where}: shape [{record.rows}, {record.columns}], want 1 to {layout.MAX_DIMENSION} each")
    allowed = NUMBERS if record.kind == Kind.DENSE else INTEGERS
    if record.dtype not in allowed:
        raise UnsupportedError(f"R11: {where}: dtype {record.dtype} is not known for kind {record.kind}")
    _check_parameters(record, where)
    cursor = _Cursor(blob, record, where)
    indices = cursor.take("<u2", record.tensor_count).astype(np.int64)
    ascending = bool((np.diff(indices) > 0).all()) and int(indices[-1]) < layout.MAX_TENSORS
    _require(ascending, f"R12: {where}: tensor indices are not ascending below {layout.MAX_TENSORS}")
    entries, start = None, cursor.position
    if record.kind == Kind.FOURIER_EXPLICIT:
        entries, cursor.position = decode_gaps(blob, start, cursor.end, record.count, record.rows * record.columns)
    raw = blob[start : cursor.position]
    reader = GROUP_READERS[record.kind]
    group = {int(index): reader(cursor, record, entries) for index in indices}
    cursor.finish()
    return group, raw


def _check_parameters(record: Record, where: str) -> None:
    """Check count, seed and scaling against the kind: rules R17 and R18."""
    size = record.rows * record.columns
    largest = {
        Kind.DENSE: 0,
        Kind.FOURIER: min(size // 2, layout.MAX_FREQUENCIES),
        Kind.FOURIER_EXPLICIT: min(size, layout.MAX_FREQUENCIES),
        Kind.LOW_RANK: layout.MAX_RANK,
        Kind.VERA: layout.MAX_RANK,
    }[Kind(record.kind)]
    smallest = 0 if record.kind == Kind.DENSE else 1
    _require(smallest <= record.count <= largest, f"R17: {where}: count {record.count}, want {smallest} to {largest}")
    seeded = record.kind in (Kind.FOURIER, Kind.VERA)
    _require(seeded or record.seed == 0, f"R18: {where}: kind {record.kind} has no seed")
    if record.kind == Kind.DENSE:
        _require(struct.pack("<f", record.scaling) == bytes(4), f"R18: {where}: a dense record has no scaling")
    else:
        # A negative zero would be a second encoding of zero.
        plain = np.isfinite(record.scaling) and not (record.scaling == 0 and np.signbit(record.scaling))
        _require(bool(plain), f"R18: {where}: the scaling is not finite, or a negative zero")


def _read_dense(cursor: _Cursor, record: Record, _: NDArray[np.uint32] | None) -> Delta:
    return Dense(cursor.numbers(record.dtype, (record.rows, record.columns)))


def _read_fourier(cursor: _Cursor, record: Record, entries: NDArray[np.uint32] | None) -> Delta:
    return Fourier(
        rows=record.rows,
        columns=record.columns,
        coefficients=cursor.numbers(record.dtype, (record.count,)),
        scaling=record.scaling,
        seed=record.seed if entries is None else None,
        explicit=entries,
    )


def _read_low_rank(cursor: _Cursor, record: Record, _: NDArray[np.uint32] | None) -> Delta:
    a = cursor.numbers(record.dtype, (record.count, record.columns))
    b = cursor.numbers(record.dtype, (record.rows, record.count))
    return LowRank(a=a, b=b, scaling=record.scaling)


def _read_vera(cursor: _Cursor, record: Record, _: NDArray[np.uint32] | None) -> Delta:
    d = cursor.numbers(record.dtype, (record.count,))
    b = cursor.numbers(record.dtype, (record.rows,))
    return Vera(d=d, b=b, columns=record.columns, seed=record.seed, scaling=record.scaling)


def _no_parameters(record: Record, where: str, scaling: bool = False) -> None:
    """Check that a record that concerns no tensor leaves count, seed (and scaling) at zero."""
    _require(record.count == 0 and record.seed == 0, f"R18: {where}: count and seed are not zero")
    if not scaling:
        _require(struct.pack("<f", record.scaling) == bytes(4), f"R18: {where}: the scaling is not zero")


def _read_calibration(blob: bytes, record: Record, where: str) -> tuple[str, Calibration]:
    """Read rule R21's record."""
    _no_parameters(record, where)
    if record.dtype not in NUMBERS:
        raise UnsupportedError(f"R11: {where}: dtype {record.dtype} is not known for kind {record.kind}")
    size = record.rows * record.columns
    within = record.rows >= 1 and record.columns >= 1 and size <= layout.MAX_EXPECTED
    _require(within, f"R21: {where}: [{record.rows}, {record.columns}] offsets, want 1 to {layout.MAX_EXPECTED} in all")
    cursor = _Cursor(blob, record, where)
    offsets = cursor.numbers(record.dtype, (record.rows, record.columns))
    cursor.finish()
    return "calibration", Calibration(offsets=offsets)


def _read_known_answer(blob: bytes, record: Record, where: str) -> tuple[str, KnownAnswer]:
    """Read rule R22's record."""
    _no_parameters(record, where, scaling=True)
    if record.dtype != DtypeCode.FLOAT32:
        raise UnsupportedError(f"R11: {where}: dtype {record.dtype} is not known for kind {record.kind}")
    within = 1 <= record.rows <= layout.MAX_CONTEXT and 1 <= record.columns <= layout.MAX_EXPECTED
    _require(within, f"R22: {where}: context of {record.rows} and {record.columns} expected numbers")
    _require(bool(np.isfinite(record.scaling)) and record.scaling > 0, f"R22: {where}: tolerance {record.scaling}")
    cursor = _Cursor(blob, record, where)
    context = cursor.take("<f4", record.rows).astype(np.float32)
    expected = cursor.take("<f4", record.columns).astype(np.float32)
    cursor.finish()
    _require(bool(np.isfinite(context).all() and np.isfinite(expected).all()), f"R22: {where}: a number is not finite")
    return "known_answer", KnownAnswer(context=context, expected=expected, tolerance=record.scaling)


def _read_metadata(blob: bytes, record: Record, where: str) -> tuple[str, dict[str, Any]]:
    """Read rule R23's record."""
    _no_parameters(record, where)
    _require(record.dtype == record.rows == record.columns == 0, f"R23: {where}: dtype and shape are not zero")
    if not 1 <= record.size <= layout.MAX_METADATA_SIZE:
        raise SizeError(f"R23: {where}: {record.size} bytes of metadata, want 1 to {layout.MAX_METADATA_SIZE}")
    value = canonical.loads(blob[record.offset : record.offset + record.size], f"R23: {where}")
    _require(isinstance(value, dict) and bool(value), f"R23: {where}: metadata is not a non-empty JSON object")
    return "metadata", value


def _read_binding(blob: bytes, record: Record, where: str) -> tuple[str, Binding]:
    """Read rule R24's record."""
    _no_parameters(record, where)
    within = 1 <= record.rows <= layout.MAX_DIMENSION and 1 <= record.columns <= layout.MAX_DIMENSION
    _require(record.dtype == 0 and within, f"R24: {where}: a dtype, or lengths {record.rows} and {record.columns}")
    if record.size < layout.BINDING.size:
        raise SizeError(f"R15: {where}: {record.size} bytes, want at least {layout.BINDING.size}")
    interval_us, low, high, system, *sizes = layout.BINDING.unpack_from(blob, record.offset)
    if layout.BINDING.size + sum(sizes) != record.size:
        raise SizeError(f"R15: {where}: texts of {sum(sizes)} bytes in {record.size - layout.BINDING.size}")
    _require(system in set(CodeSystem), f"R24: {where}: code system {system} is not known")
    texts, at = [], record.offset + layout.BINDING.size
    for size in sizes:
        texts.append(blob[at : at + size].decode("latin-1"))
        at += size
    try:
        return "binding", Binding(
            name=texts[2],
            code_system=CodeSystem(system),
            code=texts[0],
            unit=texts[1],
            interval_us=interval_us,
            context_length=record.rows,
            prediction_length=record.columns,
            low=low,
            high=high,
        )
    except ValueError as error:
        raise FormatError(f"R24: {where}: {error}") from error


GroupReader = Callable[[_Cursor, Record, NDArray[np.uint32] | None], Delta]
GROUP_READERS: dict[int, GroupReader] = {
    Kind.DENSE: _read_dense,
    Kind.FOURIER: _read_fourier,
    Kind.FOURIER_EXPLICIT: _read_fourier,
    Kind.LOW_RANK: _read_low_rank,
    Kind.VERA: _read_vera,
}
EXTRA_READERS: dict[int, Callable[[bytes, Record, str], tuple[str, Any]]] = {
    Kind.CALIBRATION: _read_calibration,
    Kind.KNOWN_ANSWER: _read_known_answer,
    Kind.METADATA: _read_metadata,
    Kind.BINDING: _read_binding,
}
