"""The format's own number generator: a few lines of 64-bit integer arithmetic, the same in numpy and in C.

If possible a blob carries a 32-bit seed instead of thousands of numbers, so every reader must always expand that seed
to the same numbers. Library generators do not guarantee that; this one is defined in FORMAT.md §5.
The mixing function is SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
"""

import numpy as np
from numpy.typing import NDArray

# One stream for each use, so that a seed shared by two uses gives unrelated numbers.
STREAM_ENTRIES = 1
STREAM_VERA_A = 2
STREAM_VERA_B = 3
STREAM_SAMPLES = 4

# VeRA counts (rank, position) as rank * PROJECTION_STRIDE + position, so that a projection for a narrow layer is a
# slice of the one for a wide layer.
PROJECTION_STRIDE = 65_536
# Projection numbers are odd integers in [-4095, 4095]; a projection's value is that integer / 4096.
PROJECTION_ONE = 4_096

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits; arithmetic is modulo 2^64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def words(seed: int, stream: int, counter: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the pseudo-random 64-bit word at each ``counter`` of a seed's stream, shape of ``counter``."""
    key = _mix(np.array([seed + (stream << 32)], dtype=np.uint64))
    return _mix(key + (counter + np.uint64(1)) * _GAMMA)


def seeded_entries(seed: int, rows: int, columns: int, count: int) -> NDArray[np.uint32]:
    """Choose ``count`` distinct entries of a ``[rows, columns]`` spectrum: flat row-major indices, ascending.

    Words are drawn in counter order; the high half of each picks an entry by multiply-and-shift; repeats are passed
    over. Raises `ValueError` when more than half of the entries are asked for: those travel explicitly.
    """
    size = rows * columns
    if not 0 < count <= size // 2:
        raise ValueError(f"seeded entries: want 1 to {size // 2} of a [{rows}, {columns}] spectrum, got {count}")
    # Twice as many draws as needed are enough almost always (at most half of the entries are taken).
    drawn = 2 * count + 16
    while True:
        high = words(seed, STREAM_ENTRIES, np.arange(drawn, dtype=np.uint64)) >> np.uint64(32)
        candidates = (high * np.uint64(size)) >> np.uint64(32)
        distinct, first = np.unique(candidates, return_index=True)
        if len(distinct) >= count:
            chosen = distinct[np.argsort(first, kind="stable")[:count]]
            return np.sort(chosen).astype(np.uint32)
        drawn *= 2


def projection(seed: int, stream: int, rank: int, width: int) -> NDArray[np.int64]:
    """Return VeRA's frozen projection as odd integers ``[rank, width]``; divide by `PROJECTION_ONE` for values."""
    counter = np.arange(rank, dtype=np.uint64)[:, None] * np.uint64(PROJECTION_STRIDE)
    counter = counter + np.arange(width, dtype=np.uint64)[None, :]
    return (words(seed, stream, counter) >> np.uint64(52)).astype(np.int64) * 2 - 4_095
