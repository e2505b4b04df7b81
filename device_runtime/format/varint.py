"""Gap coding for ascending indices: LEB128 of each difference minus one, the shortest form only."""

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import CanonicalError, FormatError

MAX_BYTES = 4  # an index is below 2^26 (8,192 × 8,192)


def encode_gaps(indices: NDArray[np.uint32]) -> bytes:
    """Encode strictly ascending ``indices``: 1 to 4 bytes each."""
    out = bytearray()
    previous = -1
    for index in indices.tolist():
        gap = index - previous - 1
        previous = index
        while gap >= 0x80:
            out.append(gap & 0x7F | 0x80)
            gap >>= 7
        out.append(gap)
    return bytes(out)


def decode_gaps(data: bytes, start: int, end: int, count: int, limit: int) -> tuple[NDArray[np.uint32], int]:
    """Decode ``count`` indices below ``limit`` from ``data[start:end]``; also return where they ended.

    Raises `FormatError` when they run past ``end`` or reach ``limit`` and `CanonicalError` for a longer form.
    """
    indices = np.empty(count, dtype=np.uint32)
    position, previous = start, -1
    for item in range(count):
        gap = shift = 0
        while True:
            if position >= end:
                raise FormatError(f"R19: entries run past their record at byte {position}")
            byte = data[position]
            position += 1
            gap |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= 7 * MAX_BYTES:
                raise FormatError(f"R19: an entry of more than {MAX_BYTES} bytes at byte {position}")
        if byte == 0 and shift > 7:
            raise CanonicalError(f"R20: an entry in a longer form than needed at byte {position - 1}")
        previous += gap + 1
        if previous >= limit:
            raise FormatError(f"R19: entry {previous} is outside of a spectrum of {limit} at byte {position - 1}")
        indices[item] = previous
    return indices, position
