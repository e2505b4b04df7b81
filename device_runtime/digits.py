"""Numbers as text: significant digits for people, the shortest text that gives the same float32 back for programs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGNIFICANT = 7  # decimal digits that a float32 holds


def say(value: float) -> str:
    """Return a value with `SIGNIFICANT` digits, however large or small it is: ``72.5``, ``7.4908e-05``."""
    return f"{value:.{SIGNIFICANT}g}"


def shortest(values: NDArray[np.float32]) -> list[list[float]]:
    """Return float32 ``[H, Q]`` as numbers whose JSON is the shortest text that reads back as the same float32."""
    return [[float(str(value)) for value in row] for row in values]
