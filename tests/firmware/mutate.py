"""Mutants of good blobs, manifests and signed files that keep their structure, so that they get past its first checks.

Lengths, offsets and checksums are repaired after a change (mostly), so that each deep rule is reached.
"""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from device_runtime.format.layout import Kind

KINDS = [int(kind) for kind in Kind]
RECORD = "<BBHIIIIIII"  # kind, dtype, tensor_count, rows, columns, count, seed, scaling (bits), offset, size
WORDS = [0, 1, 2, 3, 5, 12, 255, 256, 4095, 4096, 4097, 8191, 8192, 8193, 0x7F800000, 0x7FC00000, 0x80000000]
WORDS += [0x3F800000, 0xFF800000, 0xFFFFFFFF]
BYTES = [0, 1, 2, 0x1F, 0x20, 0x7E, 0x7F, 0x80, 0x81, 0xFF]
TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"0",
    b"-",
    b".",
    b"1",
    b"e",
    b"null",
    b"true",
    b" ",
    b"\\",
    b"\x7f",
]
TOKENS += [b"0.10", b"-0.0", b"1e5", b"\xc3\xa9", b"0.0001", b"0.00001", b"123456789012345678", b"1234567890123456.5"]
FORMS = [
    b"0.0001",
    b"0.00001",
    b"0.00011",
    b"0.000099",
    b"-0",
    b"-0.0",
    b"0.0",
    b"00",
    b"01",
    b"1.",
    b".5",
    b"1.50",
    b"0.50",
]
FORMS += [b"1e2", b"1E2", b"-1", b"64.0", b"123456789012345.0", b"1234567890123456.0", b"0.123456789012345", b"1.0"]
FORMS += [
    b"0.1234567890123456",
    b"0.000123456789012345",
    b"123456789012345678",
    b"1234567890123456789",
    b"999999999999999999",
]
FORMS += [
    b"4294967295",
    b"4294967296",
    b"+1",
    b"0x10",
    b"NaN",
    b"Infinity",
    b"0.5",
    b"99999999999999.9",
    b"999999999999999.9",
]
NUMBERS: list[Any] = [
    0, 1, -1, 2, 3, 64, 1000, 8192, 8193, 65535, 65536, 65537, 2**31, 2**32 - 1, 2**32, 2**40, 10**18 - 1,
    -(10**18 - 1), 10**18, 0.5, 1.0, 0.0, -0.5, 64.0, 0.0001, 0.00012345, 99999999999999.5, 0.1 + 0.2, 1e15, 1e-5,
]  # fmt: skip
OTHERS: list[Any] = [None, True, False, "", "x", "1", "a/b", ".hidden", "bundle.json", "tunable.safetensors", [], {}]
OTHERS += [
    [[]],
    {"": 1},
    [1, 2],
    {"file": "forecast.onnx", "tensors": []},
    "0" * 64,
    "A" * 64,
    "~ ~",
    "é",
    'q"q',
    "\x1f",
]


@dataclass
class Parts:
    """A blob apart: header fields as bytes, records as lists of fields and their data."""

    header: bytearray  # 64 bytes
    records: list[list[int]]
    data: list[bytearray]

    @classmethod
    def of(cls, blob: bytes) -> Parts:
        count = int.from_bytes(blob[12:14], "little")
        records = [list(struct.unpack_from(RECORD, blob, 64 + 32 * i)) for i in range(count)]
        data = [bytearray(blob[record[8] : record[8] + record[9]]) for record in records]
        return cls(bytearray(blob[:64]), records, data)

    def join(self, draw: random.Random) -> bytes:
        """Put it together; rarely leave a length, an offset or the checksum as it was."""
        offset = 64 + 32 * len(self.records)
        table, body = bytearray(), bytearray()
        for record, data in zip(self.records, self.data, strict=True):
            fields = list(record)
            if draw.random() > 0.01:
                fields[8], fields[9] = offset + len(body), len(data)
            table += struct.pack(RECORD, *fields)
            body += data
        header = bytearray(self.header)
        if draw.random() > 0.01:
            struct.pack_into("<IH", header, 8, offset + len(body), len(self.records))
        return repaired(header + table + body) if draw.random() > 0.01 else bytes(header + table + body)


def repaired(data: bytes | bytearray) -> bytes:
    """The bytes with the right checksum."""
    out = bytearray(data)
    out[60:64] = struct.pack("<I", zlib.crc32(bytes(out[64:]), zlib.crc32(bytes(out[:60]))))
    return bytes(out)


def blob(good: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """A mutant of a blob, perhaps with a record of another one."""
    parts = Parts.of(good)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        number = draw.randrange(len(parts.records)) if parts.records else None
        if number is None:
            break
        _change(parts, number, others, draw)
    return parts.join(draw)


LIMITS = [0xFF, 0xFF, 0xFFFF, *[0xFFFFFFFF] * 5]  # of a record's fields, those before its offset and size
# Zeros of both signs, the smallest, the largest, no numbers.
SCALINGS = [0, 0x80000000, 1, 0x80000001, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x3F800000]


def _change(parts: Parts, number: int, others: list[bytes], draw: random.Random) -> None:
    """Make one change: of a record's fields, of its data, of the table or of the header."""
    match draw.randrange(8):
        case 0 | 1 | 2:
            _change_record(parts.records[number], draw)
        case 3 | 4 | 5:
            _change_data(parts.data[number], parts.records[number][0], draw)
        case 6:
            _change_table(parts, number, others, draw)
        case _:  # version, flags, digest, adapter version, reserved
            place = draw.choice([4, 5, 6, 14, 15, draw.randrange(16, 60)])
            parts.header[place] = draw.choice([*BYTES, parts.header[place] ^ 1])


def _change_record(record: list[int], draw: random.Random) -> None:
    """Change a field."""
    field = draw.randrange(8)
    match draw.randrange(4):
        case 0:
            record[field] = draw.choice(WORDS) & LIMITS[field]
        case 1:
            record[field] = (record[field] + draw.choice([-1, 1])) & LIMITS[field]
        case 2:  # a kind and a dtype that there are
            record[0] = draw.choice([*KINDS, record[0]])
            record[1] = draw.choice([0, 1, 2, 3, record[1]])
        case _:
            record[7] = draw.choice(SCALINGS)


def _change_table(parts: Parts, number: int, others: list[bytes], draw: random.Random) -> None:
    """Leave a record out, say one twice, change their order, or take one of another blob."""
    place = draw.randrange(len(parts.records) + 1)
    match draw.randrange(4):
        case 0:
            del parts.records[number], parts.data[number]
        case 1:
            parts.records.insert(place, list(parts.records[number]))
            parts.data.insert(place, bytearray(parts.data[number]))
        case 2:
            other = draw.randrange(len(parts.records))
            for both in (parts.records, parts.data):
                both[number], both[other] = both[other], both[number]  # type: ignore[index]  # two lists of one length
        case _:
            source = Parts.of(draw.choice(others))
            chosen = draw.randrange(len(source.records))
            parts.records.insert(place, source.records[chosen])
            parts.data.insert(place, source.data[chosen])


def _change_data(data: bytearray, kind: int, draw: random.Random) -> None:
    """Change a record's data, knowing what its kind keeps there."""
    match draw.randrange(7):
        case 0:
            del data[draw.randrange(len(data) + 1) :]
        case 1:
            data += bytes(draw.choice(BYTES) for _ in range(draw.randint(1, 8)))
        case 2 if len(data) >= 4:  # a float
            struct.pack_into("<I", data, draw.randrange(len(data) - 3), draw.choice(WORDS))
        case 3 | 4 if kind == 18:  # metadata: text
            place = draw.randrange(len(data) + 1)
            data[place : place + draw.randint(0, 2)] = draw.choice(TOKENS)
        case 5 if kind == 19 and len(data) > 20:  # its interval
            struct.pack_into("<Q", data, 0, draw.choice([0, 1, 10**15 - 1, 10**15, 10**15 + 1, 2**63, 2**64 - 1]))
        case 3 if kind == 19 and len(data) > 20:  # a binding: its sizes, its texts
            place = draw.randrange(16, len(data))
            data[place] = draw.choice([*BYTES, data[place] ^ 0x20, 0x20, 0x41])
        case 4 if kind == 19 and len(data) > 20:  # the ends of its texts
            ends = [20 + sum(data[17 : 17 + n]) for n in range(4)]
            place = max(20, min(len(data) - 1, draw.choice(ends) - draw.randint(0, 1)))
            data[place] = draw.choice([0x20, 0x7F, 0x41])
        case _ if data:
            place = draw.randrange(len(data))
            data[place] = draw.choice([*BYTES, data[place] ^ (1 << draw.randrange(8))])
        case _:
            pass


def manifest(good: bytes, draw: random.Random) -> bytes:
    """A mutant of a manifest: mostly of its values, written canonically again; else of its text."""
    if draw.random() < 0.1:  # a number in another form
        places = list(re.finditer(rb"(?<=[:\[,])-?[0-9][0-9.]*(?=[,}\]])", good))
        place = draw.choice(places)
        return good[: place.start()] + draw.choice(FORMS) + good[place.end() :]
    if draw.random() < 0.15:
        text = bytearray(good)
        for _ in range(draw.randint(1, 2)):
            place = draw.randrange(len(text) + 1)
            text[place : place + draw.choice([0, 0, 1, 2])] = draw.choice(TOKENS)
        return bytes(text)
    value = json.loads(good)
    for _ in range(draw.choice([1, 1, 1, 2])):
        value = _edited(value, draw)
    if draw.random() < 0.02:
        value = {"a": [[[[[value]]]]]} if draw.random() < 0.5 else value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=draw.random() < 0.9).encode("utf-8")


def _edited(value: Any, draw: random.Random) -> Any:
    """Change one node of a tree of JSON values, each depth alike."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(sorted(value))
        match draw.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, draw.choice(["", "zebra", "a b", f"{key}x", "x/y", ".x", "bundle.json"]): value[key]}
            case _:
                return {**value, key: _edited(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        place = draw.randrange(len(value))
        match draw.randrange(8):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value[:place], value[place], *value[place:]]
            case 2:
                return draw.sample(value, len(value))
            case 3 if len(value) < 64:
                return value * draw.choice([2, 20])
            case _:
                return [*value[:place], _edited(value[place], draw), *value[place + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and draw.random() < 0.4:
        return value + draw.choice([-1, 1, 2**32, 0.5])
    return draw.choice(NUMBERS if draw.random() < 0.5 else OTHERS)


def signed(blob_bytes: bytes, trailers: list[bytes], draw: random.Random) -> bytes:
    """A blob with mutants of signatures behind it."""
    chosen = [bytearray(draw.choice(trailers)) for _ in range(draw.choice([1, 1, 1, 2, 3, 8, 9]))]
    if draw.random() < 0.6:
        one = draw.choice(chosen)
        match draw.randrange(5):
            case 0:  # the head
                place = draw.randrange(16)
                one[place] = draw.choice([*BYTES, one[place] ^ 1])
            case 1:  # R or S
                place = draw.randrange(16, 80)
                one[place] ^= 1 << draw.randrange(8)
            case 2:  # S and a multiple of the order
                order = 2**252 + 27742317777372353535851937790883648493
                number = int.from_bytes(one[48:], "little") + order * draw.choice([1, 2, 7, 8])
                one[48:] = (number % 2**256).to_bytes(32, "little")
            case 3:  # R by its second encoding, or its sign
                y = int.from_bytes(one[16:48], "little")
                one[16:48] = ((y + draw.choice([2**255 - 19, 2**255])) % 2**256).to_bytes(32, "little")
            case _:
                one[16:80] = bytes(draw.choice(BYTES) for _ in range(64))
    behind = b"".join(chosen)
    if draw.random() < 0.1:
        behind = behind[: draw.randrange(len(behind) + 1)]
    changed = bytearray(blob_bytes)
    if draw.random() < 0.2:
        place = draw.randrange(len(changed))
        changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed) + behind
