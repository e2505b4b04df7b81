"""Times since a start, written like a clock: ``36:15``, ``1 days 02:30:00``."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from device_runtime.series.words import fold

MINUTE_US, SECOND_US = 60_000_000, 1_000_000
_NAMES = (
    "elapsed",
    "elapsedtime",
    "relativetime",
    "reltime",
    "timesinceadmission",
    "timesincestart",
    "duration",
)
_FORM = re.compile(r"(?:(\d+)\s*d(?:ays?)?,?\s+)?(\d+):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?", re.ASCII)


def elapsed_times(name: str, words: Sequence[str]) -> NDArray[np.int64] | None:
    """Return times since a start (``36:15``, ``1 days 02:30:00``) in microseconds, or None.

    None where they may be times of day: neither is the column called so, nor is one of them of a day or more.
    """
    found = [_FORM.fullmatch(word) for word in words]
    if not all(found):
        return None
    parts = [[int(part or 0) for part in one.groups()[:4]] for one in found if one is not None]
    fractions = [int((one[5] or "0")[:6].ljust(6, "0")) for one in found if one is not None]
    if any(minute > 59 or second > 59 for _, _, minute, second in parts):
        return None
    beyond = any(one is not None and one[1] for one in found) or any(hour > 24 for _, hour, _, _ in parts)
    if not beyond and fold(name) not in _NAMES:
        return None
    return np.array(
        [
            ((day * 24 + hour) * 60 + minute) * MINUTE_US + second * SECOND_US + fraction
            for (day, hour, minute, second), fraction in zip(parts, fractions, strict=True)
        ],
        dtype=np.int64,
    )
