"""Random numbers whose state can be saved and resumed: a seed and how many were drawn."""

from __future__ import annotations

import numpy as np

from device_runtime.format.generator import words

STREAM = 64  # of the format's generator; the format's own streams are numbered from 1


class Draws:
    """Whole numbers, the same on every machine and in every release."""

    def __init__(self, seed: int, drawn: int = 0) -> None:
        self.seed, self.drawn = seed, drawn

    def below(self, limit: int, count: int) -> list[int]:
        """Draw ``count`` numbers from 0 to ``limit`` - 1, each anew."""
        counter = np.arange(self.drawn, self.drawn + count, dtype=np.uint64)
        self.drawn += count
        high = words(self.seed, STREAM, counter) >> np.uint64(32)
        return [int(one) for one in (high * np.uint64(limit)) >> np.uint64(32)]

    def sample(self, limit: int, count: int) -> list[int]:
        """Draw at most ``count`` different numbers from 0 to ``limit`` - 1, in random order."""
        left = list(range(limit))
        count = min(count, limit)
        for place in range(count):  # Fisher and Yates
            other = place + self.below(limit - place, 1)[0]
            left[place], left[other] = left[other], left[place]
        return left[:count]
