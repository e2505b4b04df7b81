"""Small JSON records that know whether they are whole: a body and the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from device_runtime.errors import ChecksumError


def to_json(value: Any) -> bytes:
    """Write JSON the one way these records are written: ASCII, sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def seal(value: Any) -> bytes:
    """Encode a record: hexadecimal SHA-256, a space, the JSON body, a line's end."""
    body = to_json(value)
    return hashlib.sha256(body).hexdigest().encode() + b" " + body + b"\n"


def unseal(data: bytes, what: str) -> Any:
    """Decode a record. Raises `ChecksumError` for anything but exactly what `seal` wrote."""
    digest, _, body = data.partition(b" ")
    body = body.removesuffix(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ChecksumError(f"{what} is damaged: its SHA-256 does not match")
    return json.loads(body)
