"""A digest of exactly the values used, independent of the file format."""

import struct
from collections.abc import Iterable
from hashlib import sha256

import numpy as np
import pandas as pd

from edge_tsfm.data.clock import microseconds
from edge_tsfm.data.series import Series

_QUIET_NAN = np.float32(np.nan)


def fingerprint(series: Iterable[Series]) -> str:
    """Return SHA-256 (hex) over ids, times and values, in the order of item_id, then time.

    Each series contributes its item_id and signal (UTF-8, length first), start (microseconds since 1970, or
    the first step), interval (microseconds, or steps), length, and float32 little-endian values with one NaN
    pattern.
    """
    digest = sha256(b"edge-tsfm series 1\n")
    for one in sorted(series, key=lambda s: (s.item_id, s.signal, s.segment)):
        for word in (one.item_id, one.signal):
            encoded = word.encode()
            digest.update(struct.pack("<I", len(encoded)) + encoded)
        start = one.first_step if one.start is None else microseconds(one.start)
        step = microseconds(one.interval) if isinstance(one.interval, pd.Timedelta) else one.interval
        digest.update(struct.pack("<?qdQ", one.start is not None, start, float(step), len(one.target)))
        values = np.where(np.isnan(one.target), _QUIET_NAN, one.target)
        digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()
