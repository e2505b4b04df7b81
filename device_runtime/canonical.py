"""Canonical JSON: one byte string for each value, so that a digest of it means something.

ASCII, keys sorted, no white space, no escapes, no exponents and no duplicate keys: what a reader in C of a hundred
lines can take apart without memory of its own (FORMAT.md §2).
"""

import json
from typing import Any

from device_runtime.errors import CanonicalError, FormatError

MAX_DEPTH = 8


def dumps(value: Any) -> bytes:
    """Encode ``value`` canonically. Raises `FormatError` for what the subset cannot carry."""
    _check(value, "top", 0)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def loads(data: bytes, what: str) -> Any:
    """Decode canonical JSON. Raises `FormatError` where it is not JSON and `CanonicalError` where not canonical."""
    try:
        value = json.loads(data.decode("ascii"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"{what}: not ASCII JSON: {error}") from error
    if dumps(value) != data:
        raise CanonicalError(f"{what}: JSON is not in canonical form (sorted keys, no white space, no escapes)")
    return value


def _check(value: Any, where: str, depth: int) -> None:
    """Refuse values outside of the subset."""
    if depth > MAX_DEPTH:
        raise FormatError(f"JSON at {where}: nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        if any(not 0x20 <= ord(character) < 0x7F or character in '"\\' for character in value):
            raise FormatError(f"JSON at {where}: want printable ASCII without quotes or backslashes, got {value!r}")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise FormatError(f"JSON at {where}: want text keys, got {key!r}")
            _check(key, where, depth + 1)
            _check(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]", depth + 1)
    elif isinstance(value, float):
        if "e" in repr(value) or value != value or value in (float("inf"), float("-inf")):
            raise FormatError(f"JSON at {where}: want a plain decimal number, got {value!r}")
    elif value is not None and not isinstance(value, bool | int):
        raise FormatError(f"JSON at {where}: cannot carry {type(value).__name__}")
