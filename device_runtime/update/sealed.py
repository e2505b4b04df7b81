"""Small JSON records with a checksum: a body and the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from device_runtime.errors import ChecksumError, FormatError


def to_json(value: Any) -> bytes:
    """Write JSON the one way these records are written: ASCII, sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def seal(value: Any, *, room: int = 0) -> bytes:
    """Encode a record: hexadecimal SHA-256, a space, the JSON body, a line's end.

    The body ends with spaces that make it at least ``room`` bytes in all: a file that keeps its size needs no new
    space on a full disk.
    """
    body = to_json(value)
    body += b" " * (room - len(body) - 66)
    return hashlib.sha256(body).hexdigest().encode() + b" " + body + b"\n"


def unseal(data: bytes, what: str) -> Any:
    """Decode a record. Raises `ChecksumError` for anything but what `seal` wrote, `FormatError` for no JSON in it."""
    digest, _, body = data.partition(b" ")
    body = body.removesuffix(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ChecksumError(f"{what} is damaged: its SHA-256 does not match")
    try:
        return json.loads(body.rstrip(b" "))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what}: not JSON: {type(error).__name__}") from error
