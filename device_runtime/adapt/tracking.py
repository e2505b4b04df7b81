"""Track one patient's stream: calibration offsets by quantile tracking, and one factor for the width.

Quantile tracking (Angelopoulos et al. 2023, arXiv 2307.16895) adjusts the offset of each lead and level until the level
has its nominal share of targets below it; adaptive conformal inference (Gibbs and Candès 2021, arXiv 2106.00193) widens
all levels around the median while the interval covers too little. No gradient, no stored values: ``H * Q + 1`` numbers.

**Bits.** The C library has the same functions and gives the same bits. The state is in doubles; a forecast is float32.
The only operations are ``+ - * /`` and comparisons, each rounded once to double in the order that is written here (no
fused multiply-add), and one rounding of the result to float32. Only integers are summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import FormatError, InputError

MEDIAN = 0.5
MAX_NUMBERS = 4_096  # offsets: 32 KB


class Tracking:
    """Offsets ``[H, Q]`` in widths of the outermost band, as a blob's calibration has them, and the width's factor.

    Both are bounded by ``cap``: no offset is beyond ``±cap`` widths, the factor lies within ``1 ± cap``.
    """

    def __init__(
        self, levels: Sequence[float], steps: int, *, offset_rate: float, width_rate: float, cap: float = 0.5
    ) -> None:
        """Begin with a forecast that is left as it is.

        ``levels`` ``[Q]`` ascend; ``steps`` is the longest forecast; a rate of 0 leaves its numbers where they are.
        Raises `InputError` for levels without a median between two others, and for rates or a cap out of range.
        """
        ascend = all(low < high for low, high in pairwise(levels))
        if not (ascend and len(levels) >= 3 and 0 < levels[0] < MEDIAN < levels[-1] < 1 and MEDIAN in levels):
            raise InputError(f"levels {list(levels)[:20]}: want them ascending in (0, 1), with 0.5 between two others")
        if steps < 1 or steps * len(levels) > MAX_NUMBERS:
            raise InputError(f"{steps} steps at {len(levels)} levels: want 1 to {MAX_NUMBERS} offsets in all")
        if not (0 <= offset_rate <= 1 and 0 <= width_rate <= 1 and 0 < cap < 1):
            raise InputError(
                f"offset_rate {offset_rate}, width_rate {width_rate}, cap {cap}: want 0 to 1, and a cap between 0 and 1"
            )
        self.levels = np.array(levels, dtype=np.float64)  # [Q]
        self.offset_rate, self.width_rate, self.cap = float(offset_rate), float(width_rate), float(cap)
        self.offsets = np.zeros((steps, len(levels)))  # [H, Q]
        self.factor = 1.0
        self.updates = 0  # forecasts that were learnt from
        self._median = list(levels).index(MEDIAN)

    @property
    def nominal(self) -> float:
        """Share of targets that the outermost band promises."""
        return float(self.levels[-1] - self.levels[0])

    def apply(self, quantiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move ascending quantiles ``[h, Q]``, h <= H, behind the blob's own calibration; return them sorted.

        For each step, in this order: ``w = q[Q-1] - q[0]``; ``a[j] = q[j] + offset[j] * w``; where the factor is not
        1, ``b[j] = m + (a[j] - m) * factor`` with ``m = a[median]``; one rounding to float32; the levels are sorted.
        One beyond all floats becomes infinite: the caller refuses it.
        """
        self._check(quantiles)
        q = quantiles.astype(np.float64)
        width = q[:, -1:] - q[:, :1]  # [h, 1]
        moved = q + self.offsets[: len(q)] * width
        if self.factor != 1.0:
            middle = moved[:, self._median : self._median + 1]
            moved = middle + (moved - middle) * self.factor
        with np.errstate(over="ignore"):
            return np.sort(moved.astype(np.float32), axis=-1)

    def learn(self, issued: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """Learn from a forecast ``[h, Q]`` that `apply` returned, once its targets ``[h]`` are in; NaN is missing.

        A step without a target, or whose levels are all one number, teaches nothing. For each other step and level:
        ``e = level`` where the target is above the quantile, else ``level - 1``; ``o = offset + rate * e``; then o is
        brought within ``±cap``. Then once for the whole forecast: ``c = inside / observed``, of whole numbers;
        ``g = factor * (1 + rate * (nominal - c))``; then g is brought within ``1 ± cap``.
        """
        self._check(issued)
        if target.shape != issued.shape[:1]:
            raise InputError(f"targets of shape {list(target.shape)}: want {issued.shape[0]}, one for each step")
        q, y = issued.astype(np.float64), target.astype(np.float64)
        seen = np.isfinite(y) & np.isfinite(q).all(axis=1) & (q[:, -1] > q[:, 0])  # [h]
        observed = int(seen.sum())
        if not observed:
            return
        above = y[:, None] > q  # [h, Q]
        error = np.where(above, self.levels, self.levels - 1.0)
        held = self.offsets[: len(q)]
        moved = np.minimum(np.maximum(held + self.offset_rate * error, -self.cap), self.cap)
        self.offsets[: len(q)] = np.where(seen[:, None], moved, held)
        inside = int((seen & (y >= q[:, 0]) & (y <= q[:, -1])).sum())
        grown = self.factor * (1.0 + self.width_rate * (self.nominal - inside / observed))
        self.factor = min(max(grown, 1.0 - self.cap), 1.0 + self.cap)
        self.updates += 1

    def reset(self) -> None:
        """Forget the person: the stay is over."""
        self.offsets[:] = 0.0
        self.factor, self.updates = 1.0, 0

    def _check(self, quantiles: NDArray[np.float32]) -> None:
        """Refuse a forecast of another shape."""
        steps, count = self.offsets.shape
        if quantiles.ndim != 2 or quantiles.shape[1] != count or not 1 <= len(quantiles) <= steps:
            raise InputError(
                f"a forecast of shape {list(quantiles.shape)}: want 1 to {steps} steps at {count} quantile levels"
            )

    def to_value(self) -> dict[str, Any]:
        """Encode what was learnt as plain values; levels, rates and cap are the rules'."""
        return {"offsets": self.offsets.tolist(), "factor": self.factor, "updates": self.updates}

    def restore(self, value: Any) -> None:
        """Restore what `to_value` wrote. Raises `FormatError` for anything else; then nothing is changed."""
        try:
            offsets = np.array(value["offsets"], dtype=np.float64)
            factor, updates = float(value["factor"]), value["updates"]
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"tracking: not what this monitor wrote: {error!r}") from error
        if offsets.shape != self.offsets.shape:
            raise FormatError(
                f"tracking: offsets of shape {list(offsets.shape)}, want {list(self.offsets.shape)}: another base's"
            )
        if not (np.abs(offsets) <= self.cap).all() or not 1 - self.cap <= factor <= 1 + self.cap:  # NaN is refused, too
            raise FormatError(f"tracking: offsets or a factor of {factor:g} beyond the cap of {self.cap:g} widths")
        if type(updates) is not int or updates < 0:
            raise FormatError(f"tracking: updates {updates!r}: want a whole number of at least 0")
        self.offsets, self.factor, self.updates = offsets, factor, updates
