"""The records of a blob that change tensors: one entry of `GROUPS` for each kind of delta (FORMAT.md §4).

A record is a *group* of tensors of the same shape and kind, so that what they share is stored once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import UnsupportedError
from device_runtime.format import layout
from device_runtime.format.blocks import DTYPE_CODE, INTEGERS, NUMBERS, Cursor, pack, require
from device_runtime.format.delta import Delta, Dense, Fourier, Gain, LowRank, Numbers, Vera
from device_runtime.format.layout import BlobRecord, DtypeCode, Kind, new_record
from device_runtime.format.varint import decode_gaps, encode_gaps

Entries = NDArray[np.uint32] | None
GAIN_ROWS, GAIN_COLUMNS = 1, 2  # a gain's `count` says which side its numbers are for


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the record of a delta says: fields, explicit entries, and the tensor's own blocks of numbers."""

    blocks: tuple[Numbers, ...]  # all of one dtype
    count: int = 0
    seed: int = 0
    scaling: float = 0.0
    entries: bytes = b""  # gap-coded


@dataclass(frozen=True, kw_only=True)
class GroupKind:
    """One kind of delta: what its record may hold, and how to write and read it."""

    holds: Callable[[Delta], bool]
    write: Callable[[Any], Said]
    shapes: Callable[[BlobRecord], tuple[tuple[int, ...], ...]]  # of each tensor's blocks of numbers
    read: Callable[[BlobRecord, Entries, tuple[Numbers, ...]], Delta]
    counts: Callable[[int], tuple[int, int]]  # elements of the tensor → the smallest and largest `count` (R17)
    dtypes: tuple[DtypeCode, ...] = INTEGERS
    seeded: bool = False
    scaled: bool = True
    explicit: bool = False  # entries lie in front of the numbers


def _ranks(_: int) -> tuple[int, int]:
    return 1, layout.MAX_RANK


def _fourier(record: BlobRecord, entries: Entries, blocks: tuple[Numbers, ...]) -> Delta:
    return Fourier(
        rows=record.rows,
        columns=record.columns,
        coefficients=blocks[0],
        scaling=record.scaling,
        seed=record.seed if entries is None else None,
        explicit=entries,
    )


GROUPS: Mapping[int, GroupKind] = MappingProxyType({
    Kind.DENSE: GroupKind(
        holds=lambda delta: isinstance(delta, Dense),
        write=lambda delta: Said(blocks=(delta.numbers,)),
        shapes=lambda record: ((record.rows, record.columns),),
        read=lambda record, entries, blocks: Dense(blocks[0]),
        counts=lambda size: (0, 0),
        dtypes=NUMBERS,
        scaled=False,
    ),
    Kind.FOURIER: GroupKind(
        holds=lambda delta: isinstance(delta, Fourier) and delta.explicit is None,
        write=lambda delta: Said(
            blocks=(delta.coefficients,), count=delta.parameters, seed=delta.seed, scaling=delta.scaling
        ),
        shapes=lambda record: ((record.count,),),
        read=_fourier,
        counts=lambda size: (1, min(size // 2, layout.MAX_FREQUENCIES)),
        seeded=True,
    ),
    Kind.FOURIER_EXPLICIT: GroupKind(
        holds=lambda delta: isinstance(delta, Fourier) and delta.explicit is not None,
        write=lambda delta: Said(
            blocks=(delta.coefficients,),
            count=delta.parameters,
            scaling=delta.scaling,
            entries=encode_gaps(delta.entries),
        ),
        shapes=lambda record: ((record.count,),),
        read=_fourier,
        counts=lambda size: (1, min(size, layout.MAX_FREQUENCIES)),
        explicit=True,
    ),
    Kind.LOW_RANK: GroupKind(
        holds=lambda delta: isinstance(delta, LowRank),
        write=lambda delta: Said(blocks=(delta.a, delta.b), count=delta.a.stored.shape[0], scaling=delta.scaling),
        shapes=lambda record: ((record.count, record.columns), (record.rows, record.count)),
        read=lambda record, entries, blocks: LowRank(a=blocks[0], b=blocks[1], scaling=record.scaling),
        counts=_ranks,
    ),
    Kind.VERA: GroupKind(
        holds=lambda delta: isinstance(delta, Vera),
        write=lambda delta: Said(
            blocks=(delta.d, delta.b), count=delta.d.stored.size, seed=delta.seed, scaling=delta.scaling
        ),
        shapes=lambda record: ((record.count,), (record.rows,)),
        read=lambda record, entries, blocks: Vera(
            d=blocks[0], b=blocks[1], columns=record.columns, seed=record.seed, scaling=record.scaling
        ),
        counts=_ranks,
        seeded=True,
    ),
    Kind.GAIN: GroupKind(
        holds=lambda delta: isinstance(delta, Gain),
        write=lambda delta: Said(blocks=(delta.numbers,), count=GAIN_ROWS if delta.of_rows else GAIN_COLUMNS),
        shapes=lambda record: ((record.rows if record.count == GAIN_ROWS else record.columns,),),
        read=lambda record, entries, blocks: Gain(
            rows=record.rows, columns=record.columns, numbers=blocks[0], of_rows=record.count == GAIN_ROWS
        ),
        counts=lambda size: (GAIN_ROWS, GAIN_COLUMNS),
        scaled=False,
    ),
})  # fmt: skip


def group_records(deltas: Mapping[int, Delta]) -> list[tuple[BlobRecord, bytes]]:
    """Write deltas, tensor index → delta in ascending order, as records and their data; in no particular order."""
    groups: dict[tuple[Any, ...], list[tuple[int, bytes]]] = {}
    for index, delta in deltas.items():
        kind, said = _described(delta)
        dtype = DTYPE_CODE[said.blocks[0].dtype]
        key = (kind, *delta.shape, said.count, dtype, said.seed, _stored(said.scaling), said.entries)
        groups.setdefault(key, []).append((index, b"".join(pack(block) for block in said.blocks)))
    parts: list[tuple[BlobRecord, bytes]] = []
    for (kind, rows, columns, count, dtype, seed, scaling, entries), members in groups.items():
        indices = np.array([index for index, _ in members], dtype="<u2").tobytes()
        data = indices + entries + b"".join(numbers for _, numbers in members)
        parts.append((new_record(kind, dtype, len(members), rows, columns, count, seed, scaling, data), data))
    return parts


def _described(delta: Delta) -> tuple[int, Said]:
    """Find a delta's kind and what its record says."""
    for kind, group in GROUPS.items():
        if group.holds(delta):
            return kind, group.write(delta)
    raise TypeError(f"no record kind for {type(delta).__name__}")


def _stored(scaling: float) -> float:
    """Return a scaling as a record holds it: float32, and zero without a sign."""
    return float(np.float32(scaling)) + 0.0


def entries_of(record: BlobRecord, data: bytes) -> bytes:
    """Return a record's explicit entries as stored, or nothing."""
    if record.kind not in GROUPS or not GROUPS[record.kind].explicit:
        return b""
    start = 2 * record.tensor_count
    _, end = decode_gaps(data, start, len(data), record.count, record.rows * record.columns)
    return data[start:end]


def read_group(blob: bytes, record: BlobRecord, where: str) -> tuple[dict[int, Delta], bytes]:
    """Read a record of deltas: rules R11–R20. Also return its explicit entries as bytes."""
    if record.kind not in GROUPS:
        raise UnsupportedError(f"R11: {where}: record kind {record.kind} is not known")
    kind = GROUPS[record.kind]
    _check_fields(record, kind, where)
    cursor = Cursor(blob, record, where)
    indices = cursor.take("<u2", record.tensor_count).astype(np.int64)
    ascending = bool((np.diff(indices) > 0).all()) and int(indices[-1]) < layout.MAX_TENSORS
    require(ascending, f"R12: {where}: tensor indices are not ascending below {layout.MAX_TENSORS}")
    entries, start = None, cursor.position
    if kind.explicit:
        entries, cursor.position = decode_gaps(blob, start, cursor.end, record.count, record.rows * record.columns)
    raw = blob[start : cursor.position]
    group: dict[int, Delta] = {}
    for index in indices:
        blocks = tuple(cursor.numbers(record.dtype, shape) for shape in kind.shapes(record))
        group[int(index)] = kind.read(record, entries, blocks)
    cursor.finish()
    return group, raw


def _check_fields(record: BlobRecord, kind: GroupKind, where: str) -> None:
    """Check a record's fields against its kind: rules R13, R14, R11, R17 and R18."""
    require(1 <= record.tensor_count <= layout.MAX_TENSORS, f"R13: {where}: {record.tensor_count} tensors")
    within = 1 <= record.rows <= layout.MAX_DIMENSION and 1 <= record.columns <= layout.MAX_DIMENSION
    require(within, f"R14: {where}: shape [{record.rows}, {record.columns}], want 1 to {layout.MAX_DIMENSION} each")
    if record.dtype not in kind.dtypes:
        raise UnsupportedError(f"R11: {where}: dtype {record.dtype} is not known for kind {record.kind}")
    smallest, largest = kind.counts(record.rows * record.columns)
    require(smallest <= record.count <= largest, f"R17: {where}: count {record.count}, want {smallest} to {largest}")
    require(kind.seeded or record.seed == 0, f"R18: {where}: kind {record.kind} has no seed")
    if not kind.scaled:
        plain = struct.pack("<f", record.scaling) == bytes(4)
        require(plain, f"R18: {where}: kind {record.kind} has no scaling")
        return
    # A negative zero would be a second encoding of zero.
    plain = bool(np.isfinite(record.scaling)) and not (record.scaling == 0 and bool(np.signbit(record.scaling)))
    require(plain, f"R18: {where}: the scaling is not finite, or a negative zero")
