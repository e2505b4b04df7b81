"""Canonical JSON: one byte string for each value, so that a digest of it means something.

ASCII, keys sorted, no white space, no escapes, no exponents and no duplicate keys: a reader of a hundred lines of C can
parse it without allocating memory (FORMAT.md §2). That reader has no shortest-digits algorithm either, so numbers with
a point have at most 15 significant digits, with which each double has a unique shortest text.
"""

import json
import re
from typing import Any

from device_runtime.errors import CanonicalError, FormatError

MAX_DEPTH = 8
# The two kinds of number, as text; significant digits are counted beside.
WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,14})\.(0|[0-9]*[1-9])")


def dumps(value: Any) -> bytes:
    """Encode ``value`` canonically, floats rounded to 15 significant digits.

    Raises `FormatError` for what the subset cannot carry.
    """
    plain = _plain(value, "top", 0)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def loads(data: bytes, what: str) -> Any:
    """Decode canonical JSON. Raises `CanonicalError` for anything else."""
    try:
        value = json.loads(data.decode("ascii"))
        canonical = dumps(value)
    except (UnicodeDecodeError, ValueError, RecursionError, FormatError) as error:
        raise CanonicalError(f"{what}: not canonical JSON: {error}") from error
    if canonical != data:
        raise CanonicalError(f"{what}: JSON is not in canonical form (sorted keys, no white space, no escapes)")
    return value


def _plain(value: Any, where: str, depth: int) -> Any:
    """Copy ``value``, refusing what is outside of the subset."""
    if depth > MAX_DEPTH:
        raise FormatError(f"JSON at {where}: nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        if any(not 0x20 <= ord(character) < 0x7F or character in '"\\' for character in value):
            raise FormatError(f"JSON at {where}: want printable ASCII without quotes or backslashes, got {value!r}")
        return value
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise FormatError(f"JSON at {where}: want text keys, got {list(value)!r}")
        return {_plain(key, where, depth + 1): _plain(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not WHOLE.fullmatch(str(value)):
            raise FormatError(f"JSON at {where}: want a whole number of at most 18 digits, got {value}")
        return value
    if isinstance(value, float):
        return _plain_float(value, where)
    raise FormatError(f"JSON at {where}: cannot carry {type(value).__name__}")


def _plain_float(value: float, where: str) -> float:
    """Round to 15 significant digits; refuse what would need an exponent or is a negative zero."""
    rounded = float(f"{value:.15g}")
    text = repr(rounded)
    significant = re.sub(r"^-?(0\.0*)?|\.0$|\.", "", text)
    if not DECIMAL.fullmatch(text) or len(significant) > 15 or text == "-0.0":
        raise FormatError(f"JSON at {where}: want a number that needs no exponent, got {value!r}")
    return rounded
