"""Values that cannot be readings become missing, and are counted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """The values ``[R]`` with NaN for what is no reading, and how many there were of each."""

    value: NDArray[np.float32]
    missing: int
    non_positive: int
    implausible: int


def clean(value: NDArray[np.float32], plausible: tuple[float, float] | None) -> Cleaned:
    """Make values <= 0 and outside ``plausible`` (ends included) missing.

    Monitors and charts write 0 (WFDB numerics, many exports) or -1 for "not measured"; where ``plausible`` begins at or
    below 0 they are readings. Without a range, as for another domain's signal, only infinite values go.
    """
    absent = np.isnan(value)
    low, high = plausible or (-np.inf, np.inf)
    non_positive = value <= 0 if low > 0 else np.zeros(len(value), dtype=bool)
    outside = ~absent & ~non_positive & ((value < low) | (value > high) | np.isinf(value))
    return Cleaned(
        value=np.where(non_positive | outside, np.float32(np.nan), value),
        missing=int(absent.sum()),
        non_positive=int(non_positive.sum()),
        implausible=int(outside.sum()),
    )
