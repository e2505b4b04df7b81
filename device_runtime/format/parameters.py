"""Reading the numbers of a manifest's ``parameters``: each bounded before anything is allocated from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from device_runtime.errors import FormatError


def whole(parameters: Mapping[str, Any], name: str, *, least: int, most: int) -> int:
    """Return a whole number from ``least`` to ``most``. Raises `FormatError`."""
    value = parameters.get(name)
    if type(value) is not int or not least <= value <= most:
        raise FormatError(f"bundle.json: parameters.{name}: want a whole number from {least} to {most}, got {value!r}")
    return value


def number(parameters: Mapping[str, Any], name: str) -> float:
    """Return a finite number. Raises `FormatError`."""
    value = parameters.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FormatError(f"bundle.json: parameters.{name}: want a number, got {value!r}")
    return float(value)


def flag(parameters: Mapping[str, Any], name: str) -> bool:
    """Return a truth value. Raises `FormatError`."""
    value = parameters.get(name)
    if not isinstance(value, bool):
        raise FormatError(f"bundle.json: parameters.{name}: want true or false, got {value!r}")
    return value
