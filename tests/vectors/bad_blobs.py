"""Vectors of blobs that break a reader rule of FORMAT.md §9, one rule each."""

from __future__ import annotations

import math
import struct

from naive import (
    Rec,
    blob,
    calibration,
    dense,
    explicit,
    fourier,
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
        "refused/r05-version-2": refused(5, "UnsupportedError", "format version 2", blob([one], version=2)),
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
        "refused/r09-extras": of(9, "CanonicalError", "two known answers", d, known_answer(), known_answer()),
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
        "refused/r18-nan": of(18, "FormatError", "a scaling that is not a number", with_(f, scaling=nan)),
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
