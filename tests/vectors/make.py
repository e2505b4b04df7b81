"""Write the vectors: ``python tests/vectors/make.py``. Deterministic; a test compares its output with the files.

Merged weights come from a naive evaluation of FORMAT.md §5 and §6 in Python's whole numbers, one element after the
other, so that neither reader is its own judge.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
MASK = 2**64 - 1
DIGEST = bytes(range(32))
LEVELS = 3  # quantile levels of the calibration vectors


# --- the format, naively -----------------------------------------------------------------------------------------


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
        return Rec(self.kind, self.dtype, len(self.members), self.rows, self.columns, self.count, self.seed, self.scaling, data)

    def delta(self, parts: list[Block]) -> Iterator[float]:
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
                        c * (wave(math.cos, m, p * u) * wave(math.cos, n, q * v) - wave(math.sin, m, p * u) * wave(math.sin, n, q * v))
                        for c, (u, v) in zip(first, spots, strict=True)
                    )
                    yield float(total) * gain
                elif self.kind == 4:
                    total = sum(int(parts[1].values[p * self.count + k]) * first[k * n + q] for k in range(self.count))
                    yield float(total) * gain
                else:
                    total = sum(
                        projection(self.seed, 3, k, p) * first[k] * projection(self.seed, 2, k, q) for k in range(self.count)
                    )
                    yield (float(total) * parts[1].values[p]) * gain

    def merged(self, tensor: int) -> str:
        weights = base(tensor, self.rows * self.columns)
        sums = [weight + delta for weight, delta in zip(weights, self.delta(self.members[tensor]), strict=True)]
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
    head = struct.pack("<4sHHIHH32sQI", magic, version, header_size, size, count, flags, DIGEST, adapter_version, reserved)
    rest = table + body + tail
    return head + struct.pack("<I", zlib.crc32(rest, zlib.crc32(head)) ^ crc) + rest


def dense(tensor: int = 0, rows: int = 2, columns: int = 1, dtype: int = 3) -> Group:
    return Group(1, dtype, rows, columns, {tensor: [block(dtype, rows * columns, 11)]})


def fourier(tensors: Sequence[int] = (1,), *, dtype: int = 2, seed: int = 2024, rows: int = 4, columns: int = 6, count: int = 5) -> Group:
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


def calibration(dtype: int = 2, rows: int = LEVELS, columns: int = 2) -> Rec:
    return Rec(16, dtype, 0, rows, columns, 0, 0, 0.0, block(dtype, rows * columns, 61, 0.00001).pack())


def known_answer(context: Sequence[float] = (71.0, 72.5), expected: Sequence[float] = (70.0, 72.0, 74.0), tolerance: float = 0.125) -> Rec:
    data = struct.pack(f"<{len(context) + len(expected)}f", *context, *expected)
    return Rec(17, 1, 0, len(context), len(expected), 0, 0, tolerance, data)


def metadata(text: bytes = b'{"method":"fourierft","mse":1.25}') -> Rec:
    return Rec(18, 0, 0, 0, 0, 0, 0, 0.0, text)


def with_(rec: Rec, **changes: object) -> Rec:
    return Rec(**{**vars(rec), **changes})  # type: ignore[arg-type]


# --- the vectors --------------------------------------------------------------------------------------------------

CODES = {
    "FormatError": 100, "ChecksumError": 101, "SizeError": 102, "CanonicalError": 103, "UnsupportedError": 110,
    "SignatureError": 200, "MergeError": 310,
}  # fmt: skip


def vector(head: Sequence[tuple[str, object]], payload: bytes) -> bytes:
    return "".join(f"{key}: {value}\n" for key, value in head).encode("ascii") + b"\n" + payload


def refused(rule: int, error: str, comment: str, payload: bytes) -> bytes:
    head = [("what", "blob"), ("expect", f"{error} {CODES[error]}"), ("rule", f"R{rule}"), ("comment", comment)]
    return vector(head, payload)


def accepted(comment: str, groups: Sequence[Group], extras: Sequence[Rec] = (), **header: int) -> bytes:
    payload = blob([group.record() for group in groups] + list(extras), **header)
    numbers = sum(len(part.values) for group in groups for parts in group.members.values() for part in parts)
    head: list[tuple[str, object]] = [("what", "blob"), ("expect", "ok"), ("comment", comment)]
    head += [("version", header.get("adapter_version", 7)), ("forced", header.get("flags", 0)), ("parameters", numbers)]
    head += [("merged", f"{t} {group.merged(t)}") for group in groups for t in group.members]
    head += [("calibrated", calibrated(extra)) for extra in extras if extra.kind == 16]
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
        out += sorted(q + offsets[j * rec.columns + min(h, rec.columns - 1)] * width for j, q in enumerate(quantiles))
    return f"{rec.columns + 1} {hashlib.sha256(struct.pack(f'<{len(out)}f', *out)).hexdigest()}"


def all_vectors() -> dict[str, bytes]:
    """Name → bytes of every vector."""
    return {**good_blobs(), **bad_headers(), **bad_groups(), **bad_extras(), **merges(), **manifests(), **signed(), **generator()}


def good_blobs() -> dict[str, bytes]:
    every = [dense(), fourier((1, 5)), explicit([0, 1, 130, 599]), low_rank(), vera()]
    flat = Group(2, 2, 1, 64, {0: [block(2, 8, 20)]}, count=8, seed=5, scaling=1.0)
    zero = Group(4, 2, 2, 2, {0: [Block(2, [-5, 3, 0, 0], f32(0.1)), Block(2, [0, 0, 0, 7], f32(0.1))]}, count=2, scaling=-1.0)
    # Found by search: product and sum in one rounding, as a fused multiply-add does, give another float.
    fused = Group(4, 2, 1, 1, {0: [Block(2, [19869], f32(3e-5)), Block(2, [30544], f32(5e-6))]}, count=1, scaling=0.501)
    peak = Group(3, 2, 8, 8, {0: [Block(2, [32767] * 64, f32(1.0))]}, count=64, scaling=1.0, explicit=list(range(64)))
    return {
        "ok/dense-int8": accepted("the smallest adapter: two numbers", [dense()]),
        "ok/dense-int16": accepted("int16 numbers", [dense(dtype=2, rows=5, columns=3)]),
        "ok/dense-float32": accepted("float32 numbers, no scale", [dense(dtype=1, rows=4, columns=4)]),
        "ok/dense-zero-scale": accepted("a scale of zero is one", [Group(1, 2, 2, 1, {0: [Block(2, [0, 0], 0.0)]})]),
        "ok/fourier-int16": accepted("two tensors share their entries", [fourier((1, 5))]),
        "ok/fourier-int8": accepted("int8 coefficients, odd sides", [fourier(dtype=3, rows=7, columns=9)]),
        "ok/fourier-one-row": accepted("a period of 1 has a flat wave", [flat]),
        "ok/fourier-one-column": accepted("a vector's spectrum", [fourier(rows=40, columns=1, count=3)]),
        "ok/fourier-half": accepted("half of all entries from a seed", [fourier(rows=4, columns=6, count=12)]),
        "ok/fourier-largest-seed": accepted("all bits of a seed count", [fourier(seed=2**32 - 1)]),
        "ok/fourier-square": accepted("a square of even sides: rows mirror", [fourier(rows=16, columns=16, count=20)]),
        "ok/explicit": accepted("first and last entry, gaps of one and two bytes", [explicit([0, 1, 130, 599])]),
        "ok/explicit-int8": accepted("int8 coefficients", [explicit([17, 500], dtype=3)]),
        "ok/explicit-all": accepted("every entry at the largest coefficient", [peak]),
        "ok/explicit-two-records": accepted("the bytes of the entries decide the order", [explicit([3, 9]), explicit([4, 9], 5)]),
        "ok/low-rank-int16": accepted("", [low_rank()]),
        "ok/low-rank-int8": accepted("", [low_rank(dtype=3, rank=1)]),
        "ok/low-rank-zeros": accepted("a sum of zero has no sign, and the scaling is negative", [zero]),
        "ok/low-rank-contraction": accepted("contracting product and sum gives another weight", [fused]),
        "ok/vera-int16": accepted("", [vera()]),
        "ok/vera-int8": accepted("wider than a reader's tile", [vera(dtype=3, columns=70, rank=3)]),
        "ok/every-kind": accepted("all kinds", every, [calibration(), known_answer(), metadata()]),
        "ok/calibration-int8": accepted("", [dense()], [calibration(3)]),
        "ok/calibration-float32": accepted("", [dense()], [calibration(1, LEVELS, 4)]),
        "ok/forced": accepted("accepted by hand", [dense()], flags=1),
        "ok/largest-version": accepted("64 bits", [dense()], adapter_version=2**64 - 1),
        "ok/metadata-numbers": accepted(
            "every form of canonical JSON",
            [dense()],
            [metadata(b'{"":[],"a":[{},[[[[[[0]]]]]]],"b":-1.5,"c":[0.0001,123456789012345.0,0.3,10.25],"d":-123456789012345678,"e":[true,false,null]}')],
        ),
    }  # fmt: skip


def bad_headers() -> dict[str, bytes]:
    good = blob([dense().record()])
    one = dense().record()
    many = [one] * 257
    return {
        "refused/r01-empty": refused(1, "SizeError", "no bytes", b""),
        "refused/r01-short": refused(1, "SizeError", "one byte less than a header", good[:63]),
        "refused/r02-magic": refused(2, "FormatError", "another magic", b"ETSB" + good[4:]),
        "refused/r03-cut": refused(3, "SizeError", "the last byte is missing", good[:-1]),
        "refused/r03-longer": refused(3, "SizeError", "one byte too many", good + b"\0"),
        "refused/r03-small": refused(3, "SizeError", "total_size below the header", blob([one], total=63)),
        "refused/r03-large": refused(3, "SizeError", "total_size over the limit", blob([one], total=524289)),
        "refused/r04-checksum": refused(4, "ChecksumError", "one bit of the checksum", blob([one], crc=1)),
        "refused/r04-damage": refused(4, "ChecksumError", "one bit of the last number", good[:-1] + bytes([good[-1] ^ 1])),
        "refused/r05-version-0": refused(5, "UnsupportedError", "format version 0", blob([one], version=0)),
        "refused/r05-version-2": refused(5, "UnsupportedError", "format version 2", blob([one], version=2)),
        "refused/r06-header-size": refused(6, "FormatError", "header_size 65", blob([one], header_size=65)),
        "refused/r06-flags": refused(6, "FormatError", "an unknown flag", blob([one], flags=2)),
        "refused/r06-reserved": refused(6, "FormatError", "reserved is not zero", blob([one], reserved=1)),
        "refused/r07-no-record": refused(7, "SizeError", "no record", blob([])),
        "refused/r07-many": refused(7, "SizeError", "257 records", blob(many)),
        "refused/r07-table": refused(7, "SizeError", "the table ends after the blob", blob([one], record_count=3)),
        "refused/r08-hole": refused(8, "SizeError", "a byte between table and data", blob([with_(one, offset=97)], tail=b"\0")),
        "refused/r08-overlap": refused(8, "SizeError", "two records share their data", blob([one, with_(one, offset=128)])),
        "refused/r08-past": refused(8, "SizeError", "data past the end", blob([with_(one, size=1000)])),
        "refused/r08-wrap": refused(8, "SizeError", "a size that wraps 32 bits", blob([with_(one, size=2**32 - 1)])),
        "refused/r08-tail": refused(8, "SizeError", "a byte after the data", blob([one], tail=b"\0")),
    }  # fmt: skip


def bad_groups() -> dict[str, bytes]:
    d, f, e, low, v = (group.record() for group in (dense(), fourier(), explicit([0, 1, 130, 599]), low_rank(), vera()))
    far = explicit([0, 2**21], rows=8192, columns=8192).record()
    nan, infinity = struct.pack("<f", math.nan), struct.pack("<f", math.inf)

    def swapped(rec: Rec, at: int, new: bytes) -> bytes:
        return blob([with_(rec, data=rec.data[:at] + new + rec.data[at + len(new) :])])

    def of(rule: int, error: str, comment: str, *records: Rec) -> bytes:
        return refused(rule, error, comment, blob(records))

    two = dense(1).record()
    return {
        "refused/r09-kind": of(9, "CanonicalError", "fourier before dense", f, d),
        "refused/r09-rows": of(9, "CanonicalError", "more rows first", dense(0, 3).record(), dense(1, 2).record()),
        "refused/r09-columns": of(9, "CanonicalError", "more columns first", dense(0, 2, 2).record(), dense(1, 2, 1).record()),
        "refused/r09-dtype": of(9, "CanonicalError", "int8 before int16", dense(0).record(), dense(1, dtype=2).record()),
        "refused/r09-seed": of(9, "CanonicalError", "larger seed first", fourier((1,), seed=9).record(), fourier((2,), seed=8).record()),
        "refused/r09-scaling": of(9, "CanonicalError", "larger bits of scaling first", with_(f, scaling=3.0), with_(fourier((3,)).record(), scaling=2.0)),
        "refused/r09-equal": of(9, "CanonicalError", "two groups that should be one", d, two),
        "refused/r09-entries": of(9, "CanonicalError", "larger entries first", explicit([4, 9]).record(), explicit([3, 9], 5).record()),
        "refused/r09-extras": of(9, "CanonicalError", "two known answers", d, known_answer(), known_answer()),
        "refused/r10-no-delta": of(10, "FormatError", "only a known answer", known_answer()),
        "refused/r11-kind-0": of(11, "UnsupportedError", "kind 0", with_(d, kind=0)),
        "refused/r11-kind-6": of(11, "UnsupportedError", "kind 6", with_(d, kind=6)),
        "refused/r11-kind-19": of(11, "UnsupportedError", "kind 19", d, with_(metadata(), kind=19)),
        "refused/r11-dense-none": of(11, "UnsupportedError", "dense without a dtype", with_(d, dtype=0)),
        "refused/r11-dense-4": of(11, "UnsupportedError", "dtype 4", with_(d, dtype=4)),
        "refused/r11-fourier-float": of(11, "UnsupportedError", "float32 coefficients", with_(f, dtype=1)),
        "refused/r11-known-answer-int": of(11, "UnsupportedError", "an int16 known answer", d, with_(known_answer(), dtype=2)),
        "refused/r11-calibration-none": of(11, "UnsupportedError", "a calibration without a dtype", d, with_(calibration(), dtype=0)),
        "refused/r12-descending": refused(12, "FormatError", "indices descend", swapped(fourier((1, 5)).record(), 0, b"\5\0\1\0")),
        "refused/r12-twice": refused(12, "FormatError", "the same index twice", swapped(fourier((1, 5)).record(), 0, b"\1\0\1\0")),
        "refused/r12-large": refused(12, "FormatError", "index 4096", swapped(d, 0, b"\0\x10")),
        "refused/r12-two-records": of(12, "FormatError", "a tensor in two records", d, fourier((0,)).record()),
        "refused/r13-none": of(13, "FormatError", "a group of no tensors", with_(d, tensor_count=0)),
        "refused/r13-many": of(13, "FormatError", "4,097 tensors", with_(d, tensor_count=4097)),
        "refused/r13-extra": of(13, "FormatError", "metadata of a tensor", d, with_(metadata(), tensor_count=1)),
        "refused/r14-rows-0": of(14, "FormatError", "no rows", with_(d, rows=0)),
        "refused/r14-columns-0": of(14, "FormatError", "no columns", with_(d, columns=0)),
        "refused/r14-rows": of(14, "FormatError", "8,193 rows", with_(d, rows=8193)),
        "refused/r14-columns": of(14, "FormatError", "columns that wrap when multiplied", with_(d, columns=2**31 + 1)),
        "refused/r15-indices": of(15, "SizeError", "indices run past", with_(d, tensor_count=400)),
        "refused/r15-scale": of(15, "SizeError", "the scale runs past", with_(d, data=d.data[:5])),
        "refused/r15-numbers": of(15, "SizeError", "numbers run past", with_(d, rows=3)),
        "refused/r15-left-over": of(15, "SizeError", "a byte left over", with_(d, data=d.data + b"\0")),
        "refused/r15-second-block": of(15, "SizeError", "B of a low-rank delta runs past", with_(low, data=low.data[:-1])),
        "refused/r15-known-answer": of(15, "SizeError", "a byte left over", d, with_(known_answer(), data=known_answer().data + b"\0")),
        "refused/r15-calibration": of(15, "SizeError", "an offset is missing", d, with_(calibration(), data=calibration().data[:-2])),
        "refused/r16-nan": refused(16, "FormatError", "a NaN among float32 numbers", swapped(dense(dtype=1).record(), 2, nan)),
        "refused/r16-infinite-scale": refused(16, "FormatError", "an infinite scale", swapped(d, 2, infinity)),
        "refused/r16-negative-scale": refused(16, "FormatError", "a negative scale", swapped(d, 2, struct.pack("<f", -1.0))),
        "refused/r16-negative-zero": refused(16, "FormatError", "a negative zero", swapped(d, 2, struct.pack("<f", -0.0))),
        "refused/r16-int8": refused(16, "FormatError", "-128", swapped(d, 6, b"\x80")),
        "refused/r16-int16": refused(16, "FormatError", "-32,768", swapped(f, 6, b"\x00\x80")),
        "refused/r17-dense": of(17, "FormatError", "a dense record with a count", with_(d, count=1)),
        "refused/r17-fourier-0": of(17, "FormatError", "no frequency", with_(f, count=0)),
        "refused/r17-fourier-half": of(17, "FormatError", "more than half of the entries", with_(f, count=13)),
        "refused/r17-fourier-most": of(17, "FormatError", "4,097 frequencies", with_(f, rows=256, columns=256, count=4097)),
        "refused/r17-explicit": of(17, "FormatError", "more entries than there are", with_(e, count=601)),
        "refused/r17-rank-0": of(17, "FormatError", "rank 0", with_(low, count=0)),
        "refused/r17-rank": of(17, "FormatError", "rank 257", with_(v, count=257)),
        "refused/r18-dense-seed": of(18, "FormatError", "a dense record with a seed", with_(d, seed=1)),
        "refused/r18-dense-scaling": of(18, "FormatError", "a scaling of negative zero", with_(d, scaling=-0.0)),
        "refused/r18-explicit-seed": of(18, "FormatError", "explicit entries and a seed", with_(e, seed=1)),
        "refused/r18-low-rank-seed": of(18, "FormatError", "a low-rank record with a seed", with_(low, seed=1)),
        "refused/r18-nan": of(18, "FormatError", "a scaling that is not a number", with_(f, scaling=nan)),
        "refused/r18-calibration": of(18, "FormatError", "a calibration with a scaling", d, with_(calibration(), scaling=1.0)),
        "refused/r18-known-answer": of(18, "FormatError", "a known answer with a seed", d, with_(known_answer(), seed=1)),
        "refused/r18-metadata": of(18, "FormatError", "metadata with a count", d, with_(metadata(), count=1)),
        "refused/r19-past": of(19, "FormatError", "entries run past the record", with_(e, data=e.data[:2] + b"\x80" * 2)),
        "refused/r19-five-bytes": refused(19, "FormatError", "an entry of five bytes", swapped(far, 2, b"\x80" * 4 + b"\x01")),
        "refused/r19-outside": refused(19, "FormatError", "an entry after the last", swapped(e, 5, b"\xd5\x03")),
        "refused/r20-zero": refused(20, "CanonicalError", "zero in two bytes", swapped(e, 2, b"\x80\x00")),
        "refused/r20-longer": refused(20, "CanonicalError", "a gap in three bytes where two do", swapped(far, 2, b"\x81\x80\x00")),
    }  # fmt: skip


def bad_extras() -> dict[str, bytes]:
    d, c, k = dense().record(), calibration(), known_answer()

    def of(rule: int, error: str, comment: str, *records: Rec) -> bytes:
        return refused(rule, error, comment, blob([d, *records]))

    def text(error: str, comment: str, data: bytes) -> bytes:
        return of(23, error, comment, metadata(data))

    return {
        "refused/r21-rows": of(21, "FormatError", "no levels", with_(c, rows=0)),
        "refused/r21-columns": of(21, "FormatError", "no steps", with_(c, columns=0)),
        "refused/r21-many": of(21, "FormatError", "1,025 offsets", calibration(rows=25, columns=41)),
        "refused/r21-wrap": of(21, "FormatError", "a product that wraps 32 bits", with_(c, rows=2**16, columns=2**16)),
        "refused/r22-context-0": of(22, "FormatError", "no context", with_(k, rows=0)),
        "refused/r22-context": of(22, "FormatError", "a context of 513", with_(k, rows=513)),
        "refused/r22-expected-0": of(22, "FormatError", "nothing expected", with_(k, columns=0)),
        "refused/r22-expected": of(22, "FormatError", "1,025 expected", with_(k, columns=1025)),
        "refused/r22-nan": of(22, "FormatError", "a context with a missing value", known_answer((71.0, math.nan))),
        "refused/r22-infinite": of(22, "FormatError", "an infinite expectation", known_answer(expected=(math.inf,))),
        "refused/r22-tolerance-0": of(22, "FormatError", "a tolerance of zero", with_(k, scaling=0.0)),
        "refused/r22-tolerance-negative": of(22, "FormatError", "a negative tolerance", with_(k, scaling=-1.0)),
        "refused/r22-tolerance-infinite": of(22, "FormatError", "an infinite tolerance", with_(k, scaling=math.inf)),
        "refused/r23-shape": of(23, "FormatError", "metadata with rows", with_(metadata(), rows=1)),
        "refused/r23-dtype": of(23, "FormatError", "metadata with a dtype", with_(metadata(), dtype=1)),
        "refused/r23-none": text("SizeError", "no bytes", b""),
        "refused/r23-large": text("SizeError", "1,025 bytes", b'{"a":"' + b"x" * 1017 + b'"}'),
        "refused/r23-list": text("FormatError", "a list", b"[1]"),
        "refused/r23-empty": text("FormatError", "an empty object", b"{}"),
        "refused/r23-cut": text("CanonicalError", "not closed", b'{"a":1'),
        "refused/r23-tail": text("CanonicalError", "something after it", b'{"a":1}}'),
        "refused/r23-space": text("CanonicalError", "white space", b'{"a": 1}'),
        "refused/r23-order": text("CanonicalError", "keys not in order", b'{"b":1,"a":2}'),
        "refused/r23-prefix": text("CanonicalError", "the shorter key comes first", b'{"aa":1,"a":2}'),
        "refused/r23-duplicate": text("CanonicalError", "a key twice", b'{"a":1,"a":1}'),
        "refused/r23-escape": text("CanonicalError", "an escape that says a plain letter", b'{"a":"\\u0041"}'),
        "refused/r23-latin": text("CanonicalError", "a byte that is not ASCII", b'{"a":"\xe9"}'),
        "refused/r23-control": text("CanonicalError", "a tab in a text", b'{"a":"\t"}'),
        "refused/r23-exponent": text("CanonicalError", "an exponent", b'{"a":1e3}'),
        "refused/r23-small": text("CanonicalError", "its shortest form has an exponent", b'{"a":0.00001}'),
        "refused/r23-idle-zero": text("CanonicalError", "an idle zero", b'{"a":1.50}'),
        "refused/r23-leading-zero": text("CanonicalError", "a leading zero", b'{"a":01}'),
        "refused/r23-minus-zero": text("CanonicalError", "a signed zero", b'{"a":-0}'),
        "refused/r23-minus-zero-point": text("CanonicalError", "a signed zero", b'{"a":-0.0}'),
        "refused/r23-digits": text("CanonicalError", "16 significant digits", b'{"a":0.1234567890123456}'),
        "refused/r23-long": text("CanonicalError", "19 digits", b'{"a":1234567890123456789}'),
        "refused/r23-nan": text("CanonicalError", "not a number", b'{"a":NaN}'),
        "refused/r23-deep": text("CanonicalError", "nine levels below the top", b'{"a":' + b"[" * 8 + b"0" + b"]" * 8 + b"}"),
        "refused/r23-comma": text("CanonicalError", "a comma too many", b'{"a":[1,]}'),
    }  # fmt: skip


def merges() -> dict[str, bytes]:
    huge = Group(1, 2, 2, 1, {0: [Block(2, [1, 0], f32(3e38))]})
    head = [("what", "blob"), ("expect", "MergeError 310"), ("comment", "a merged weight is not finite"), ("base", "largest")]
    return {"merge/overflow": vector(head, blob([huge.record()]))}


def manifest(**changes: object) -> bytes:
    value: dict[str, object] = {
        "base": {"licence": "Apache-2.0"},
        "context_length": 64,
        "dead": [],
        "family": "chronos-bolt",
        "files": {
            "forecast.onnx": {"sha256": "ab" * 32, "size": 1000},
            "tunable.safetensors": {"sha256": "0123456789abcdef" * 4, "size": 400},
        },
        "format": "edge-tsfm bundle",
        "format_version": 1,
        "graphs": {"forecast": {"file": "forecast.onnx", "tensors": [0, 1]}},
        "name": "tiny",
        "parameters": {"patch_size": 16},
        "precision": "float32",
        "prediction_length": 8,
        "quantile_levels": [0.1, 0.5, 0.9],
        "tensors": [
            {"name": "encoder.weight", "offset": 80, "shape": [8, 8]},
            {"name": "encoder.bias", "offset": 336, "shape": [16]},
        ],
        "tools": {},
    }
    value.update(changes)
    kept = {key: item for key, item in value.items() if item is not None}
    return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode("ascii")


def manifests() -> dict[str, bytes]:
    good = manifest()

    def ok(comment: str, data: bytes, tensors: int) -> bytes:
        digest = hashlib.sha256(data).hexdigest()
        return vector([("what", "manifest"), ("expect", "ok"), ("comment", comment), ("digest", digest), ("tensors", tensors)], data)

    def bad(comment: str, data: bytes, error: str = "FormatError") -> bytes:
        return vector([("what", "manifest"), ("expect", f"{error} {CODES[error]}"), ("comment", comment)], data)

    def tensor(shape: list[int], offset: object = 80) -> bytes:
        return manifest(tensors=[{"name": "x", "offset": offset, "shape": shape}], graphs={})

    def file(name: str, **changes: object) -> bytes:
        files = {"tunable.safetensors": {"sha256": "00" * 32, "size": 400}, name: {"sha256": "11" * 32, "size": 1, **changes}}
        return manifest(files=files, graphs={})

    missing = ("context_length", "family", "files", "graphs", "name", "parameters", "precision", "prediction_length", "quantile_levels", "tensors")
    return {
        "manifest/ok": ok("a small bundle", good, 2),
        "manifest/ok-unknown-field": ok("fields that a reader does not know are passed over", manifest(zebra=[{"a": "}"}]), 2),
        "manifest/ok-no-tensor": ok("nothing to tune", manifest(tensors=[], graphs={}), 0),
        "manifest/empty": bad("no bytes", b"", "CanonicalError"),
        "manifest/cut": bad("the last byte is missing", good[:-1], "CanonicalError"),
        "manifest/newline": bad("a line end", good + b"\n", "CanonicalError"),
        "manifest/list": bad("not an object", b"[]"),
        "manifest/format": bad("another format", manifest(format="bundle")),
        "manifest/version": bad("version 2", manifest(format_version=2), "UnsupportedError"),
        "manifest/version-text": bad("a version as text", manifest(format_version="1"), "UnsupportedError"),
        **{f"manifest/missing-{key.replace('_', '-')}": bad(f"no {key}", manifest(**{key: None})) for key in missing},
        "manifest/context-negative": bad("a negative length", manifest(context_length=-1)),
        "manifest/context-decimal": bad("a length with a point", manifest(context_length=64.0)),
        "manifest/levels-none": bad("no quantile levels", manifest(quantile_levels=[])),
        "manifest/levels-order": bad("levels descend", manifest(quantile_levels=[0.5, 0.1])),
        "manifest/levels-one": bad("a level of 1", manifest(quantile_levels=[0.5, 1.0])),
        "manifest/levels-zero": bad("a level of 0", manifest(quantile_levels=[0.0, 0.5])),
        "manifest/levels-text": bad("a level as text", manifest(quantile_levels=["0.5"])),
        "manifest/file-folder": bad("a file in a folder", file("a/b")),
        "manifest/file-hidden": bad("a hidden file", file("..")),
        "manifest/file-manifest": bad("the manifest pins itself", file("bundle.json")),
        "manifest/file-digest": bad("a digest of 63 digits", file("x", sha256="1" * 63)),
        "manifest/file-digest-case": bad("capital digits", file("x", sha256="A" * 64)),
        "manifest/file-size": bad("a negative size", file("x", size=-1)),
        "manifest/no-tunable": bad("no tunable.safetensors", manifest(files={"forecast.onnx": {"sha256": "11" * 32, "size": 1}}, tensors=[])),
        "manifest/graph-file": bad("a graph's file is not pinned", manifest(graphs={"forecast": {"file": "x.onnx", "tensors": []}})),
        "manifest/graph-tensor": bad("a graph's tensor is not in the table", manifest(graphs={"forecast": {"file": "forecast.onnx", "tensors": [2]}})),
        "manifest/tensor-scalar": bad("no dimension", tensor([])),
        "manifest/tensor-three": bad("three dimensions", tensor([2, 2, 2])),
        "manifest/tensor-zero": bad("a side of zero", tensor([0, 2])),
        "manifest/tensor-wide": bad("a side of 8,193", tensor([8193])),
        "manifest/tensor-past": bad("data past the file", tensor([8, 11])),
        "manifest/tensor-offset": bad("a negative offset", tensor([1], -4)),
        "manifest/tensor-name": bad("a name that is a number", manifest(tensors=[{"name": 1, "offset": 80, "shape": [1]}], graphs={})),
    }  # fmt: skip


def signed() -> dict[str, bytes]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    payload = blob([dense().record()])
    ours, others = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (7, 8))
    key = ours.public_key().public_bytes_raw()

    def sign(private: Ed25519PrivateKey, data: bytes = payload, *, version: int = 1, algorithm: int = 1, prefix: bytes = b"edge-tsfm adapter v1\0") -> bytes:
        public = private.public_key().public_bytes_raw()
        head = b"ETSG" + struct.pack("<HH", version, algorithm) + hashlib.sha256(public).digest()[:8]
        return head + private.sign(prefix + data)

    def of(comment: str, data: bytes, good: bool = False) -> bytes:
        expect = "ok" if good else f"SignatureError {CODES['SignatureError']}"
        return vector([("what", "signed"), ("expect", expect), ("comment", comment), ("key", key.hex())], data)

    mine, other = sign(ours), sign(others)
    return {
        "signed/ok": of("one signature", payload + mine, True),
        "signed/ok-second": of("another key's comes first", payload + other + mine, True),
        "signed/ok-eight": of("the most there may be", payload + other * 7 + mine, True),
        "signed/ok-newer-beside": of("a version to come is passed over", payload + sign(ours, version=2) + mine, True),
        "signed/none": of("no signature", payload),
        "signed/other-key": of("only another key's", payload + other),
        "signed/other-blob": of("over other bytes", payload + sign(ours, payload + b"\0")),
        "signed/no-prefix": of("over the blob alone", payload + sign(ours, prefix=b"")),
        "signed/version": of("only a version to come", payload + sign(ours, version=2)),
        "signed/algorithm": of("only another algorithm", payload + sign(ours, algorithm=2)),
        "signed/damaged": of("one bit", payload + mine[:-1] + bytes([mine[-1] ^ 1])),
        "signed/key-id": of("our signature under another key's id", payload + mine[:8] + other[8:16] + mine[16:]),
        "signed/cut": of("a byte is missing", payload + mine[:-1]),
        "signed/magic": of("something else behind a good one", payload + mine + b"ETSH" + mine[4:]),
        "signed/nine": of("more than there may be", payload + other * 8 + mine),
    }  # fmt: skip


def generator() -> dict[str, bytes]:
    def drawn(seed: int, rows: int, columns: int, count: int) -> bytes:
        head = [("what", "entries"), ("expect", "ok"), ("seed", seed), ("rows", rows), ("columns", columns), ("count", count)]
        return vector(head, struct.pack(f"<{count}I", *entries(seed, rows, columns, count)))

    def projected(seed: int, stream: int, rank: int, width: int) -> bytes:
        head = [("what", "projection"), ("expect", "ok"), ("seed", seed), ("stream", stream), ("rank", rank), ("width", width)]
        numbers = [projection(seed, stream, k, j) for k in range(rank) for j in range(width)]
        return vector(head, struct.pack(f"<{len(numbers)}h", *numbers))

    return {
        "generator/entries": drawn(2024, 256, 256, 100),
        "generator/entries-seed-0": drawn(0, 256, 64, 50),
        "generator/entries-largest-seed": drawn(2**32 - 1, 8192, 8192, 16),
        "generator/entries-half": drawn(1, 5, 5, 12),
        "generator/entries-two": drawn(3, 1, 2, 1),
        "generator/projection-a": projected(2024, 2, 4, 12),
        "generator/projection-b": projected(2**32 - 1, 3, 3, 20),
    }


def main() -> None:
    for name, data in all_vectors().items():
        path = HERE / f"{name}.vec"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
