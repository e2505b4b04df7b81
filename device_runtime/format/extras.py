"""The records of a blob that concern no tensor: calibration, known answer, metadata, binding (FORMAT.md §4)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from device_runtime.errors import FormatError, SizeError, UnsupportedError
from device_runtime.format import canonical, layout
from device_runtime.format.adapter import Adapter, Calibration, KnownAnswer
from device_runtime.format.binding import Binding, CodeSystem
from device_runtime.format.blocks import DTYPE_CODE, NUMBERS, Cursor, pack, require
from device_runtime.format.layout import BlobRecord, DtypeCode, Kind, new_record


def extra_records(adapter: Adapter) -> list[tuple[BlobRecord, bytes]]:
    """Write the records that concern no tensor."""
    parts = []
    if adapter.calibration is not None:
        offsets = adapter.calibration.offsets
        rows, columns = offsets.stored.shape
        data = pack(offsets)
        parts.append((new_record(Kind.CALIBRATION, DTYPE_CODE[offsets.dtype], 0, rows, columns, 0, 0, 0.0, data), data))
    if adapter.known_answer is not None:
        answer = adapter.known_answer
        context, expected = answer.context.astype("<f4"), answer.expected.astype("<f4")
        data = context.tobytes() + expected.tobytes()
        head = (Kind.KNOWN_ANSWER, DtypeCode.FLOAT32, 0, len(context), len(expected), 0, 0, answer.tolerance)
        parts.append((new_record(*head, data), data))
    if adapter.metadata:
        data = canonical.dumps(dict(adapter.metadata))
        parts.append((new_record(Kind.METADATA, DtypeCode.NONE, 0, 0, 0, 0, 0, 0.0, data), data))
    if adapter.binding is not None:
        bound = adapter.binding
        texts = [text.encode("ascii") for text in (bound.code, bound.unit, bound.name)]
        data = layout.BINDING.pack(
            bound.interval_us, bound.low, bound.high, bound.code_system, *(len(text) for text in texts)
        ) + b"".join(texts)
        head = (Kind.BINDING, DtypeCode.NONE, 0, bound.context_length, bound.prediction_length, 0, 0, 0.0)
        parts.append((new_record(*head, data), data))
    return parts


def _no_parameters(record: BlobRecord, where: str, scaling: bool = False) -> None:
    """Check that a record that concerns no tensor leaves count, seed (and scaling) at zero."""
    require(record.count == 0 and record.seed == 0, f"R18: {where}: count and seed are not zero")
    if not scaling:
        require(struct.pack("<f", record.scaling) == bytes(4), f"R18: {where}: the scaling is not zero")


def _read_calibration(blob: bytes, record: BlobRecord, where: str) -> tuple[str, Calibration]:
    """Read rule R21's record."""
    _no_parameters(record, where)
    if record.dtype not in NUMBERS:
        raise UnsupportedError(f"R11: {where}: dtype {record.dtype} is not known for kind {record.kind}")
    size = record.rows * record.columns
    within = record.rows >= 1 and record.columns >= 1 and size <= layout.MAX_EXPECTED
    require(within, f"R21: {where}: [{record.rows}, {record.columns}] offsets, want 1 to {layout.MAX_EXPECTED} in all")
    cursor = Cursor(blob, record, where)
    offsets = cursor.numbers(record.dtype, (record.rows, record.columns))
    cursor.finish()
    return "calibration", Calibration(offsets=offsets)


def _read_known_answer(blob: bytes, record: BlobRecord, where: str) -> tuple[str, KnownAnswer]:
    """Read rule R22's record."""
    _no_parameters(record, where, scaling=True)
    if record.dtype != DtypeCode.FLOAT32:
        raise UnsupportedError(f"R11: {where}: dtype {record.dtype} is not known for kind {record.kind}")
    within = 1 <= record.rows <= layout.MAX_CONTEXT and 1 <= record.columns <= layout.MAX_EXPECTED
    require(within, f"R22: {where}: context of {record.rows} and {record.columns} expected numbers")
    require(bool(np.isfinite(record.scaling)) and record.scaling > 0, f"R22: {where}: tolerance {record.scaling}")
    cursor = Cursor(blob, record, where)
    context = cursor.take("<f4", record.rows).astype(np.float32)
    expected = cursor.take("<f4", record.columns).astype(np.float32)
    cursor.finish()
    require(bool(np.isfinite(context).all() and np.isfinite(expected).all()), f"R22: {where}: a number is not finite")
    return "known_answer", KnownAnswer(context=context, expected=expected, tolerance=record.scaling)


def _read_metadata(blob: bytes, record: BlobRecord, where: str) -> tuple[str, dict[str, Any]]:
    """Read rule R23's record."""
    _no_parameters(record, where)
    require(record.dtype == record.rows == record.columns == 0, f"R23: {where}: dtype and shape are not zero")
    if not 1 <= record.size <= layout.MAX_METADATA_SIZE:
        raise SizeError(f"R23: {where}: {record.size} bytes of metadata, want 1 to {layout.MAX_METADATA_SIZE}")
    value = canonical.loads(blob[record.offset : record.offset + record.size], f"R23: {where}")
    require(isinstance(value, dict) and bool(value), f"R23: {where}: metadata is not a non-empty JSON object")
    return "metadata", value


def _read_binding(blob: bytes, record: BlobRecord, where: str) -> tuple[str, Binding]:
    """Read rule R24's record."""
    _no_parameters(record, where)
    within = 1 <= record.rows <= layout.MAX_DIMENSION and 1 <= record.columns <= layout.MAX_DIMENSION
    require(record.dtype == 0 and within, f"R24: {where}: a dtype, or lengths {record.rows} and {record.columns}")
    if record.size < layout.BINDING.size:
        raise SizeError(f"R15: {where}: {record.size} bytes, want at least {layout.BINDING.size}")
    interval_us, low, high, system, *sizes = layout.BINDING.unpack_from(blob, record.offset)
    if layout.BINDING.size + sum(sizes) != record.size:
        raise SizeError(f"R15: {where}: texts of {sum(sizes)} bytes in {record.size - layout.BINDING.size}")
    require(system in set(CodeSystem), f"R24: {where}: code system {system} is not known")
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


EXTRA_READERS: dict[int, Callable[[bytes, BlobRecord, str], tuple[str, Any]]] = {
    Kind.CALIBRATION: _read_calibration,
    Kind.KNOWN_ANSWER: _read_known_answer,
    Kind.METADATA: _read_metadata,
    Kind.BINDING: _read_binding,
}
