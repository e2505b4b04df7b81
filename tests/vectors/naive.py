"""FORMAT.md, naively: builders of blobs right and wrong, and what their merged weights must be.

Merged weights come from a naive evaluation of FORMAT.md §5 and §6 in Python's whole numbers, one element at a
time, so that neither reader is its own judge.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

MASK = 2**64 - 1
DIGEST = bytes(range(32))
LEVELS = 3  # quantile levels of the calibration vectors


# --- the format, naively ---------------------------------------------------------------------


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def word(seed: int, stream: int, i: int) -> int:
    return mix((mix((seed + stream * 2**32) & MASK) + (i + 1) * 0x9E3779B97F4A7C15) & MASK)


def entries(seed: int, rows: int, columns: int, count: int) -> list[int]:
    taken: set[int] = set()
    i = 0
    while len(taken) < count:
        taken.add((word(seed, 1, i) >> 32) * (rows * columns) >> 32)
        i += 1
    return sorted(taken)


def projection(seed: int, stream: int, k: int, j: int) -> int:
    return 2 * (word(seed, stream, 65536 * k + j) >> 52) - 4095


def gaps(indices: Sequence[int]) -> bytes:
    out, previous = bytearray(), -1
    for index in indices:
        gap, previous = index - previous - 1, index
        while gap >= 128:
            out.append(gap & 127 | 128)
            gap >>= 7
        out.append(gap)
    return bytes(out)


def f32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def base(tensor: int, size: int) -> list[float]:
    return [((word(tensor, 9, i) >> 40) - 2**23) / 2**26 for i in range(size)]


def naive_quantise(row: Sequence[float]) -> tuple[list[int], float]:
    """§6 on a row of merged weights: its integers and the scale. A quotient of floats survives two roundings."""
    largest = max(map(abs, row))
    if largest < 2.0**-100:
        return [0] * len(row), 1.0
    scale = Fraction(largest) / 64
    return [round(f32(float(Fraction(weight) / scale))) for weight in row], float(scale)


def wave(function: Callable[[float], float], period: int, j: int) -> int:
    return round(2**15 * function(2 * math.pi * (j % period) / period))


@dataclass
class Block:
    """Numbers as stored: integers with a scale, or floats."""

    dtype: int
    values: list[float]
    scale: float = 1.0

    def pack(self) -> bytes:
        if self.dtype == 1:
            return struct.pack(f"<{len(self.values)}f", *self.values)
        code = "h" if self.dtype == 2 else "b"
        return struct.pack(f"<f{len(self.values)}{code}", self.scale, *[int(value) for value in self.values])


def block(dtype: int, count: int, stream: int, scale: float = 0.01) -> Block:
    """Numbers that look like any others."""
    if dtype == 1:
        return Block(1, [f32((word(count, stream, i) >> 40) / 2**20 - 8) for i in range(count)])
    limit = 32767 if dtype == 2 else 127
    return Block(dtype, [(word(count, stream, i) >> 33) % (2 * limit + 1) - limit for i in range(count)], f32(scale))


@dataclass
class Group:
    """A record of deltas."""

    kind: int
    dtype: int
    rows: int
    columns: int
    members: dict[int, list[Block]]
    count: int = 0
    seed: int = 0
    scaling: float = 0.0
    explicit: list[int] = field(default_factory=list)

    def record(self) -> Rec:
        data = b"".join(struct.pack("<H", index) for index in self.members) + gaps(self.explicit)
        data += b"".join(part.pack() for parts in self.members.values() for part in parts)
        return Rec(
            self.kind,
            self.dtype,
            len(self.members),
            self.rows,
            self.columns,
            self.count,
            self.seed,
            self.scaling,
            data,
        )

    def delta(self, tensor: int, parts: list[Block]) -> Iterator[float]:
        """§6, element by element."""
        m, n, scaling = self.rows, self.columns, f32(self.scaling)
        first = [int(value) for value in parts[0].values] if parts[0].dtype != 1 else []
        if self.kind in (2, 3):
            spots = [divmod(e, n) for e in self.explicit or entries(self.seed, m, n, self.count)]
            gain = (parts[0].scale * scaling) / (m * n * 2.0**30)
        elif self.kind == 4:
            gain = (parts[0].scale * parts[1].scale) * scaling
        elif self.kind == 5:
            gain = ((parts[0].scale * parts[1].scale) * scaling) / 2.0**24
        for p in range(m):
            for q in range(n):
                if self.kind == 1:
                    yield parts[0].values[p * n + q] * (1.0 if self.dtype == 1 else parts[0].scale)
                elif self.kind in (2, 3):
                    total = sum(
                        c
                        * (
                            wave(math.cos, m, p * u) * wave(math.cos, n, q * v)
                            - wave(math.sin, m, p * u) * wave(math.sin, n, q * v)
                        )
                        for c, (u, v) in zip(first, spots, strict=True)
                    )
                    yield float(total) * gain
                elif self.kind == 7:
                    weight = base(tensor, m * n)[p * n + q]
                    yield weight * (first[p if self.count == 1 else q] * parts[0].scale)
                elif self.kind == 4:
                    total = sum(int(parts[1].values[p * self.count + k]) * first[k * n + q] for k in range(self.count))
                    yield float(total) * gain
                else:
                    total = sum(
                        projection(self.seed, 3, k, p) * first[k] * projection(self.seed, 2, k, q)
                        for k in range(self.count)
                    )
                    yield (float(total) * parts[1].values[p]) * gain

    def merged(self, tensor: int) -> str:
        weights = base(tensor, self.rows * self.columns)
        sums = [weight + delta for weight, delta in zip(weights, self.delta(tensor, self.members[tensor]), strict=True)]
        return hashlib.sha256(struct.pack(f"<{len(sums)}f", *sums)).hexdigest()


@dataclass
class Rec:
    """A record as its bytes."""

    kind: int
    dtype: int
    tensor_count: int
    rows: int
    columns: int
    count: int
    seed: int
    scaling: float | bytes
    data: bytes
    offset: int | None = None
    size: int | None = None


def blob(
    records: Sequence[Rec],
    *,
    magic: bytes = b"ETSA",
    version: int = 1,
    header_size: int = 64,
    total: int | None = None,
    record_count: int | None = None,
    flags: int = 0,
    adapter_version: int = 7,
    reserved: int = 0,
    crc: int = 0,
    tail: bytes = b"",
) -> bytes:
    """Any blob, also wrong ones; the checksum is right up to ``crc``."""
    position, table, body = 64 + 32 * len(records), b"", b""
    for r in records:
        scaling = r.scaling if isinstance(r.scaling, bytes) else struct.pack("<f", r.scaling)
        table += struct.pack("<BBHIIII", r.kind, r.dtype, r.tensor_count, r.rows, r.columns, r.count, r.seed) + scaling
        offset = position + len(body) if r.offset is None else r.offset
        table += struct.pack("<II", offset, len(r.data) if r.size is None else r.size)
        body += r.data
    size = position + len(body) + len(tail) if total is None else total
    count = len(records) if record_count is None else record_count
    head = struct.pack(
        "<4sHHIHH32sQI", magic, version, header_size, size, count, flags, DIGEST, adapter_version, reserved
    )
    rest = table + body + tail
    return head + struct.pack("<I", zlib.crc32(rest, zlib.crc32(head)) ^ crc) + rest


def dense(tensor: int = 0, rows: int = 2, columns: int = 1, dtype: int = 3) -> Group:
    return Group(1, dtype, rows, columns, {tensor: [block(dtype, rows * columns, 11)]})


def fourier(
    tensors: Sequence[int] = (1,),
    *,
    dtype: int = 2,
    seed: int = 2024,
    rows: int = 4,
    columns: int = 6,
    count: int = 5,
) -> Group:
    members = {t: [block(dtype, count, 20 + t)] for t in tensors}
    return Group(2, dtype, rows, columns, members, count=count, seed=seed, scaling=150.0)


def explicit(spots: Sequence[int], tensor: int = 2, *, rows: int = 20, columns: int = 30, dtype: int = 2) -> Group:
    members = {tensor: [block(dtype, len(spots), 31)]}
    return Group(3, dtype, rows, columns, members, count=len(spots), scaling=-2.5, explicit=list(spots))


def low_rank(tensor: int = 3, *, rows: int = 3, columns: int = 5, rank: int = 2, dtype: int = 2) -> Group:
    members = {tensor: [block(dtype, rank * columns, 41, 0.003), block(dtype, rows * rank, 42, 0.002)]}
    return Group(4, dtype, rows, columns, members, count=rank, scaling=2.0)


def vera(tensor: int = 4, *, rows: int = 3, columns: int = 5, rank: int = 4, dtype: int = 2) -> Group:
    members = {tensor: [block(dtype, rank, 51, 0.1), block(dtype, rows, 52, 0.001)]}
    return Group(5, dtype, rows, columns, members, count=rank, seed=99, scaling=0.5)


def gain(tensor: int = 6, *, rows: int = 3, columns: int = 5, side: int = 1, dtype: int = 2) -> Group:
    members = {tensor: [block(dtype, (rows, columns)[side - 1], 71, 0.00001)]}
    return Group(7, dtype, rows, columns, members, count=side)


def calibration(dtype: int = 2, rows: int = LEVELS, columns: int = 2) -> Rec:
    return Rec(16, dtype, 0, rows, columns, 0, 0, 0.0, block(dtype, rows * columns, 61, 0.00001).pack())


def known_answer(
    context: Sequence[float] = (71.0, 72.5),
    expected: Sequence[float] = (70.0, 72.0, 74.0),
    tolerance: float = 0.125,
) -> Rec:
    data = struct.pack(f"<{len(context) + len(expected)}f", *context, *expected)
    return Rec(17, 1, 0, len(context), len(expected), 0, 0, tolerance, data)


def metadata(text: bytes = b'{"method":"fourierft","mse":1.25}') -> Rec:
    return Rec(18, 0, 0, 0, 0, 0, 0, 0.0, text)


def binding(
    name: bytes = b"MAP",
    code: bytes = b"8478-0",
    unit: bytes = b"mm[Hg]",
    *,
    system: int = 1,
    interval_us: int = 3_600_000_000,
    low: float = 14.0,
    high: float = 330.0,
    context: int = 48,
    prediction: int = 6,
) -> Rec:
    sizes = (system, len(code), len(unit), len(name))
    data = struct.pack("<Qff4B", interval_us, low, high, *sizes) + code + unit + name
    return Rec(19, 0, 0, context, prediction, 0, 0, 0.0, data)


def with_(rec: Rec, **changes: object) -> Rec:
    return Rec(**{**vars(rec), **changes})  # type: ignore[arg-type]


# --- files -----------------------------------------------------------------------------------

CODES = {
    "FormatError": 100,
    "ChecksumError": 101,
    "SizeError": 102,
    "CanonicalError": 103,
    "UnsupportedError": 110,
    "SignatureError": 200,
    "MergeError": 310,
}


def vector(head: Sequence[tuple[str, object]], payload: bytes) -> bytes:
    return "".join(f"{key}: {value}\n" for key, value in head).encode("ascii") + b"\n" + payload


def refused(rule: int, error: str, comment: str, payload: bytes) -> bytes:
    head = [
        ("what", "blob"),
        ("expect", f"{error} {CODES[error]}"),
        ("rule", f"R{rule}"),
        ("comment", comment),
    ]
    return vector(head, payload)


def accepted(comment: str, groups: Sequence[Group], extras: Sequence[Rec] = (), **header: int) -> bytes:
    payload = blob([group.record() for group in groups] + list(extras), **header)
    numbers = sum(len(part.values) for group in groups for parts in group.members.values() for part in parts)
    head: list[tuple[str, object]] = [("what", "blob"), ("expect", "ok"), ("comment", comment)]
    head += [
        ("version", header.get("adapter_version", 7)),
        ("forced", header.get("flags", 0)),
        ("parameters", numbers),
    ]
    head += [("merged", f"{t} {group.merged(t)}") for group in groups for t in group.members]
    head += [("calibrated", calibrated(extra)) for extra in extras if extra.kind == 16]
    for extra in extras:
        if extra.kind == 19:
            interval, low, high, _, code, unit, _ = struct.unpack_from("<QII4B", extra.data)
            texts = extra.data[20:].decode("ascii")
            head += [("binding", f"{interval} {extra.rows} {extra.columns} {low:08x} {high:08x}")]
            head += [("code", texts[:code]), ("unit", texts[code : code + unit]), ("signal", texts[code + unit :])]
    return vector(head, payload)


def calibrated(rec: Rec) -> str:
    """§7 on the quantiles that README.md names, one step more than there are offsets."""
    if rec.dtype == 1:
        offsets = list(struct.unpack(f"<{rec.rows * rec.columns}f", rec.data))
    else:
        scale, *integers = struct.unpack(f"<f{rec.rows * rec.columns}{'h' if rec.dtype == 2 else 'b'}", rec.data)
        offsets = [integer * scale for integer in integers]
    out: list[float] = []
    for h in range(rec.columns + 1):
        quantiles = [80 + 2 * j + h / 2 for j in range(rec.rows)]
        width = quantiles[-1] - quantiles[0]
        moved = (q + offsets[j * rec.columns + min(h, rec.columns - 1)] * width for j, q in enumerate(quantiles))
        out += sorted(math.copysign(math.inf, q) if abs(q) >= 2.0**128 - 2.0**103 else q for q in moved)
    return f"{rec.columns + 1} {hashlib.sha256(struct.pack(f'<{len(out)}f', *out)).hexdigest()}"
