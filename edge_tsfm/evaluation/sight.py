"""What the gate can detect: the expected width of its interval before training; after a refusal, the patients needed.

The width follows from the variance of an adapter's difference from its frozen base, between windows and between
patients. Before training neither is known, so two constants are used, each a share of the base's own loss. The given
windows determine the effective numbers of windows and patients, since a few with a large loss dominate.
docs/guides/training.md says how the constants were measured, and how the expected widths compare with measured ones.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.evaluation.bootstrap import patient_sums
from edge_tsfm.evaluation.metrics import METRICS, score_windows
from edge_tsfm.evaluation.report import FEW_PATIENTS

# Standard deviations of (adapter's loss − base's) / base's, of adapters trained on hospital A with the defaults.
WITHIN = 0.115  # between a patient's windows
BETWEEN = 0.03  # between patients, beyond that
CONFIDENCE = 0.95
POWER = 0.8  # "four times in five"


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a gate over these windows can see. Widths and gains are relative to the base's WQL."""

    patients: int
    windows: int
    amount_to: tuple[float, float]  # as many windows, and patients, of equal loss would give an interval as wide
    base: float  # the frozen base's WQL
    unit: str = "patient"

    @property
    def half_width(self) -> float:
        """Half of the expected 95 % interval: a true gain of so much is accepted every other time."""
        windows, patients = self.amount_to
        return NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(WITHIN**2 / windows + BETWEEN**2 / patients)

    @property
    def sure_gain(self) -> float:
        """The true gain that is accepted four times in five."""
        normal = NormalDist()
        return self.half_width * (1 + normal.inv_cdf(POWER) / normal.inv_cdf((1 + CONFIDENCE) / 2))

    def __str__(self) -> str:
        """Print it before training starts."""
        if self.patients < FEW_PATIENTS:
            return (
                f"the gate has {self.patients:,} validation {self.unit}s and needs {FEW_PATIENTS}: it will refuse "
                "whatever is trained on these data"
            )
        return (
            f"the gate has {self.patients:,} validation {self.unit}s with {self.windows:,} windows (frozen base: WQL "
            f"{self.base:.4g}): expect a 95 % interval of roughly ±{100 * self.half_width:.1f} %, so a gain of "
            f"{100 * self.half_width:.1f} % passes every other time, one of {100 * self.sure_gain:.1f} % four times in "
            "five"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "patients": self.patients,
            "windows": self.windows,
            "amount_to": dict(zip(("windows", "patients"), (round(one, 1) for one in self.amount_to), strict=True)),
            "base": self.base,
            "half_width": self.half_width,
            "gain_seen_in_4_of_5": self.sure_gain,
        }


def look_ahead(base_quantiles: NDArray[np.floating], windows: Any, quantile_levels: tuple[float, ...]) -> Sight | None:
    """Describe what the gate will see over ``windows``, from the frozen base's forecasts ``[N, H, Q]`` of them.

    None where nothing can be scored, or the base's loss is zero: the gate itself says so.
    """
    scored = (~np.isnan(windows.target)).any(1)
    if not scored.any():
        return None
    scores = score_windows(base_quantiles, windows, quantile_levels)[scored][:, list(METRICS).index("wql")]
    sums = patient_sums(scores, windows.drawn[scored])  # [P, 2]
    loss, size = sums.sum(0)
    if not loss > 0 or not size > 0:
        return None
    return Sight(
        patients=len(sums),
        windows=int(scored.sum()),
        amount_to=(float(loss**2 / np.square(scores[:, 0]).sum()), float(loss**2 / np.square(sums[:, 0]).sum())),
        base=float(loss / size),
        unit=windows.unit,
    )


def patients_for(gain: float, half_width: float, patients: int) -> int | None:
    """Return how many patients an interval needs that a true ``gain`` (positive) gets past every other time.

    ``half_width`` is what ``patients`` gave; an interval narrows with the square root of their number. None where
    there is no gain.
    """
    if not gain > 0 or not half_width > 0:
        return None
    return math.ceil(patients * max(1.0, (half_width / gain) ** 2))
