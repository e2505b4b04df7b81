"""Vectors of blobs that break a reader rule of FORMAT.md §9, one rule each."""

from __future__ import annotations

import math
import struct

from tests.vectors.naive import (
    Rec,
    binding,
    blob,
    calibration,
    dense,
    explicit,
    fourier,
    gain,
    known_answer,
    low_rank,
    metadata,
    refused,
    vera,
    with_,
)


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
        "refused/r04-damage": refused(
            4, "ChecksumError", "one bit of the last number", good[:-1] + bytes([good[-1] ^ 1])
        ),
        "refused/r05-version-0": refused(5, "UnsupportedError", "format version 0", blob([one], version=0)),
        "refused/r05-version-3": refused(5, "UnsupportedError", "format version 3", blob([one], version=3)),
        "refused/r06-header-size": refused(6, "FormatError", "header_size 65", blob([one], header_size=65)),
        "refused/r06-flags": refused(6, "FormatError", "an unknown flag", blob([one], flags=2)),
        "refused/r06-reserved": refused(6, "FormatError", "reserved is not zero", blob([one], reserved=1)),
        "refused/r07-no-record": refused(7, "SizeError", "no record", blob([])),
        "refused/r07-many": refused(7, "SizeError", "257 records", blob(many)),
        "refused/r07-table": refused(7, "SizeError", "the table ends after the blob", blob([one], record_count=3)),
        "refused/r08-hole": refused(
            8, "SizeError", "a byte between table and data", blob([with_(one, offset=97)], tail=b"\0")
        ),
        "refused/r08-overlap": refused(
            8, "SizeError", "two records share their data", blob([one, with_(one, offset=128)])
        ),
        "refused/r08-past": refused(8, "SizeError", "data past the end", blob([with_(one, size=1000)])),
        "refused/r08-wrap": refused(8, "SizeError", "a size that wraps 32 bits", blob([with_(one, size=2**32 - 1)])),
        "refused/r08-tail": refused(8, "SizeError", "a byte after the data", blob([one], tail=b"\0")),
    }


def bad_groups() -> dict[str, bytes]:
    d, f, e, low, v = (group.record() for group in (dense(), fourier(), explicit([0, 1, 130, 599]), low_rank(), vera()))
    g = gain().record()
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
        "refused/r09-columns": of(
            9, "CanonicalError", "more columns first", dense(0, 2, 2).record(), dense(1, 2, 1).record()
        ),
        "refused/r09-dtype": of(
            9, "CanonicalError", "int8 before int16", dense(0).record(), dense(1, dtype=2).record()
        ),
        "refused/r09-seed": of(
            9,
            "CanonicalError",
            "larger seed first",
            fourier((1,), seed=9).record(),
            fourier((2,), seed=8).record(),
        ),
        "refused/r09-scaling": of(
            9,
            "CanonicalError",
            "larger bits of scaling first",
            with_(f, scaling=3.0),
            with_(fourier((3,)).record(), scaling=2.0),
        ),
        "refused/r09-equal": of(9, "CanonicalError", "two groups that should be one", d, two),
        "refused/r09-entries": of(
            9,
            "CanonicalError",
            "larger entries first",
            explicit([4, 9]).record(),
            explicit([3, 9], 5).record(),
        ),
        "refused/r09-extras": of(
            9, "CanonicalError", "metadata before the known answer", d, metadata(), known_answer()
        ),
        "refused/r10-no-delta": of(10, "FormatError", "only a known answer", known_answer()),
        "refused/r11-kind-0": of(11, "UnsupportedError", "kind 0", with_(d, kind=0)),
        "refused/r11-kind-6": of(11, "UnsupportedError", "kind 6", with_(d, kind=6)),
        "refused/r11-kind-19": of(11, "UnsupportedError", "kind 19", d, with_(metadata(), kind=19)),
        "refused/r11-dense-none": of(11, "UnsupportedError", "dense without a dtype", with_(d, dtype=0)),
        "refused/r11-dense-4": of(11, "UnsupportedError", "dtype 4", with_(d, dtype=4)),
        "refused/r11-fourier-float": of(11, "UnsupportedError", "float32 coefficients", with_(f, dtype=1)),
        "refused/r11-known-answer-int": of(
            11, "UnsupportedError", "an int16 known answer", d, with_(known_answer(), dtype=2)
        ),
        "refused/r11-calibration-none": of(
            11, "UnsupportedError", "a calibration without a dtype", d, with_(calibration(), dtype=0)
        ),
        "refused/r09-gain-sides": of(
            9, "CanonicalError", "columns before rows", gain(6, side=2).record(), gain(7).record()
        ),
        "refused/r11-gain-float": of(11, "UnsupportedError", "a gain of float32 numbers", with_(g, dtype=1)),
        "refused/r12-descending": refused(
            12, "FormatError", "indices descend", swapped(fourier((1, 5)).record(), 0, b"\5\0\1\0")
        ),
        "refused/r12-twice": refused(
            12, "FormatError", "the same index twice", swapped(fourier((1, 5)).record(), 0, b"\1\0\1\0")
        ),
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
        "refused/r15-second-block": of(
            15, "SizeError", "B of a low-rank delta runs past", with_(low, data=low.data[:-1])
        ),
        "refused/r15-known-answer": of(
            15, "SizeError", "a byte left over", d, with_(known_answer(), data=known_answer().data + b"\0")
        ),
        "refused/r15-calibration": of(
            15, "SizeError", "an offset is missing", d, with_(calibration(), data=calibration().data[:-2])
        ),
        "refused/r16-nan": refused(
            16, "FormatError", "a NaN among float32 numbers", swapped(dense(dtype=1).record(), 2, nan)
        ),
        "refused/r16-infinite-scale": refused(16, "FormatError", "an infinite scale", swapped(d, 2, infinity)),
        "refused/r16-negative-scale": refused(
            16, "FormatError", "a negative scale", swapped(d, 2, struct.pack("<f", -1.0))
        ),
        "refused/r16-negative-zero": refused(
            16, "FormatError", "a negative zero", swapped(d, 2, struct.pack("<f", -0.0))
        ),
        "refused/r16-int8": refused(16, "FormatError", "-128", swapped(d, 6, b"\x80")),
        "refused/r16-int16": refused(16, "FormatError", "-32,768", swapped(f, 6, b"\x00\x80")),
        "refused/r17-dense": of(17, "FormatError", "a dense record with a count", with_(d, count=1)),
        "refused/r17-fourier-0": of(17, "FormatError", "no frequency", with_(f, count=0)),
        "refused/r17-fourier-half": of(17, "FormatError", "more than half of the entries", with_(f, count=13)),
        "refused/r17-fourier-most": of(
            17, "FormatError", "4,097 frequencies", with_(f, rows=256, columns=256, count=4097)
        ),
        "refused/r17-explicit": of(17, "FormatError", "more entries than there are", with_(e, count=601)),
        "refused/r17-rank-0": of(17, "FormatError", "rank 0", with_(low, count=0)),
        "refused/r17-rank": of(17, "FormatError", "rank 257", with_(v, count=257)),
        "refused/r18-dense-seed": of(18, "FormatError", "a dense record with a seed", with_(d, seed=1)),
        "refused/r18-dense-scaling": of(18, "FormatError", "a scaling of negative zero", with_(d, scaling=-0.0)),
        "refused/r18-explicit-seed": of(18, "FormatError", "explicit entries and a seed", with_(e, seed=1)),
        "refused/r18-low-rank-seed": of(18, "FormatError", "a low-rank record with a seed", with_(low, seed=1)),
        "refused/r15-gain-side": of(15, "SizeError", "rows' numbers for columns", with_(g, count=2)),
        "refused/r17-gain-0": of(17, "FormatError", "a gain of no side", with_(g, count=0)),
        "refused/r17-gain-3": of(17, "FormatError", "a gain of a third side", with_(g, count=3)),
        "refused/r18-gain-seed": of(18, "FormatError", "a gain with a seed", with_(g, seed=1)),
        "refused/r18-gain-scaling": of(18, "FormatError", "a gain with a scaling", with_(g, scaling=-0.0)),
        "refused/r18-nan": of(18, "FormatError", "a scaling that is not a number", with_(f, scaling=nan)),
        "refused/r18-negative-zero": of(18, "FormatError", "a scaling of negative zero", with_(f, scaling=-0.0)),
        "refused/r18-calibration": of(
            18, "FormatError", "a calibration with a scaling", d, with_(calibration(), scaling=1.0)
        ),
        "refused/r18-known-answer": of(
            18, "FormatError", "a known answer with a seed", d, with_(known_answer(), seed=1)
        ),
        "refused/r18-metadata": of(18, "FormatError", "metadata with a count", d, with_(metadata(), count=1)),
        "refused/r19-past": of(
            19, "FormatError", "entries run past the record", with_(e, data=e.data[:2] + b"\x80" * 2)
        ),
        "refused/r19-five-bytes": refused(
            19, "FormatError", "an entry of five bytes", swapped(far, 2, b"\x80" * 4 + b"\x01")
        ),
        "refused/r19-outside": refused(19, "FormatError", "an entry after the last", swapped(e, 5, b"\xd5\x03")),
        "refused/r20-zero": refused(20, "CanonicalError", "zero in two bytes", swapped(e, 2, b"\x80\x00")),
        "refused/r20-longer": refused(
            20, "CanonicalError", "a gap in three bytes where two do", swapped(far, 2, b"\x81\x80\x00")
        ),
    }


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
        "refused/r23-deep": text(
            "CanonicalError", "nine levels below the top", b'{"a":' + b"[" * 8 + b"0" + b"]" * 8 + b"}"
        ),
        "refused/r23-comma": text("CanonicalError", "a comma too many", b'{"a":[1,]}'),
    }


def bad_bindings() -> dict[str, bytes]:
    d, b = dense().record(), binding()

    def of(rule: int, comment: str, *records: Rec, error: str = "FormatError") -> bytes:
        return refused(rule, error, comment, blob([d, *records], version=2))

    def other(rule: int, comment: str, *records: Rec) -> bytes:
        return of(rule, comment, *records, b)

    return {
        "refused/r11-kind-20": of(11, "kind 20", b, with_(b, kind=20), error="UnsupportedError"),
        "refused/r13-binding": of(13, "a binding of a tensor", with_(b, tensor_count=1)),
        "refused/r15-binding-short": of(15, "19 bytes", with_(b, data=b.data[:19]), error="SizeError"),
        "refused/r15-binding-cut": of(15, "the name is cut", with_(b, data=b.data[:-1]), error="SizeError"),
        "refused/r15-binding-left": of(15, "a byte left over", with_(b, data=b.data + b"x"), error="SizeError"),
        "refused/r18-binding-count": of(18, "a binding with a count", with_(b, count=1)),
        "refused/r18-binding-seed": of(18, "a binding with a seed", with_(b, seed=1)),
        "refused/r18-binding-scaling": of(18, "a binding with a scaling", with_(b, scaling=-0.0)),
        "refused/r24-dtype": of(24, "a dtype", with_(b, dtype=1)),
        "refused/r24-context-0": of(24, "no context", with_(b, rows=0)),
        "refused/r24-context": of(24, "a context of 8,193", with_(b, rows=8193)),
        "refused/r24-prediction-0": of(24, "no step", with_(b, columns=0)),
        "refused/r24-prediction": of(24, "8,193 steps", with_(b, columns=8193)),
        "refused/r24-interval": of(24, "one microsecond over the limit", binding(interval_us=10**15 + 1)),
        "refused/r24-interval-largest": of(24, "all bits of an interval", binding(interval_us=2**64 - 1)),
        "refused/r24-low-nan": of(24, "no number for the lower end", binding(low=math.nan)),
        "refused/r24-high-nan": of(24, "no number for the upper end", binding(high=math.nan)),
        "refused/r24-low-is-high": of(24, "a range of one value", binding(low=14.0, high=14.0)),
        "refused/r24-zeros": of(24, "from a negative zero to zero", binding(low=-0.0, high=0.0)),
        "refused/r24-low-over-high": of(24, "the upper end first", binding(low=330.0, high=14.0)),
        "refused/r24-system": of(24, "an unknown code system", binding(system=2)),
        "refused/r24-no-code": of(24, "a code system without a code", binding(code=b"")),
        "refused/r24-no-system": of(24, "a code without a code system", binding(system=0)),
        "refused/r24-long-code": of(24, "a code of 33 bytes", binding(code=b"8" * 33)),
        "refused/r24-long-unit": of(24, "a unit of 33 bytes", binding(unit=b"m" * 33)),
        "refused/r24-long-name": of(24, "a name of 65 bytes", binding(name=b"m" * 65)),
        "refused/r24-no-name": of(24, "no name", binding(name=b"")),
        "refused/r24-blank-first": of(24, "a blank before the name", binding(name=b" MAP")),
        "refused/r24-blank-last": of(24, "a blank behind the unit", binding(unit=b"mm[Hg] ")),
        "refused/r24-control": of(24, "a tab in the name", binding(name=b"M\tP")),
        "refused/r24-zero": of(24, "a zero byte in the code", binding(code=b"8478\0-0")),
        "refused/r24-delete": of(24, "a delete character in the name", binding(name=b"MAP\x7f")),
        "refused/r24-latin": of(24, "a byte that is not ASCII", binding(name=b"\xb0C")),
        "refused/r25-calibrations": other(25, "two calibrations", calibration(), calibration(columns=3)),
        "refused/r25-known-answers": other(25, "two known answers", known_answer(), known_answer((71.0, 72.5, 73.0))),
        "refused/r25-equal": other(25, "twice the same known answer", known_answer(), known_answer()),
        "refused/r25-metadata": other(25, "two metadata", metadata(b'{"a":1}'), metadata(b'{"a":2}')),
        "refused/r25-bindings": other(25, "two bindings", binding(context=24)),
        "refused/r25-unbound": refused(
            25, "FormatError", "two known answers in version 1", blob([d, known_answer(), known_answer((71.0,))])
        ),
        "refused/r25-no-binding": of(25, "version 2 without a binding", metadata()),
    }
