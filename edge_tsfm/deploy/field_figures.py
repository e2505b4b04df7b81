"""How accurate an adapter is in the field, over the monitors that report: intervals that may be checked repeatedly.

Monitors report sums over units of paired losses (docs/reference/field-quality.md): their number, and the sums of A (the
running adapter), B (the other), A², AB and B². The ratio of the sums is the ratio of the WQLs. Its interval is an
asymptotic confidence sequence (Waudby-Smith et al. 2021), which holds at all steps of a roll-out simultaneously. Its
variance is that over units or over monitors, whichever is larger: an adapter may suit one ward and not another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from device_runtime.quality.against import MOMENTS
from device_runtime.quality.scores import STEPS

ALPHA = 0.01  # probability that the interval ever misses the true figure
TUNED_FOR = 100  # units at which the interval is narrowest
MIN_UNITS = 30  # below, nothing is said: the interval is asymptotic
LARGEST = 1e15  # of a sum that anybody could have measured


@dataclass(frozen=True, kw_only=True)
class Figure:
    """How much higher the WQL of a roll-out's adapter is than another's, in percent, with its interval."""

    percent: float
    low: float
    high: float
    monitors: int
    steps: int  # scored
    units: int

    def __str__(self) -> str:
        """Format it for people."""
        return (
            f"{self.percent:+.2f} % ({self.low:+.2f} to {self.high:+.2f} %) over {self.monitors} monitors, "
            f"{self.steps:,} scored steps"
        )


def field_figures(reports: Iterable[Mapping[str, Any]], *, ring: str, adapter: str) -> dict[str, Figure]:
    """Return the figures of an adapter (SHA-256 of its blob, hex) against "base" and "previous", where enough is known.

    Reports come from machines that may be broken: what is no report's sums is passed over.
    """
    found: dict[str, list[tuple[float, ...]]] = {"base": [], "previous": []}
    for report in reports:
        if report.get("channel") != ring or not isinstance(report.get("quality"), dict):
            continue
        entries = [one for said in report["quality"].values() if isinstance(said, list) for one in said]
        for name, held in found.items():
            own = [
                sums
                for one in entries
                if isinstance(one, dict) and one.get("adapter") == adapter and (sums := _sums(one.get(name)))
            ]
            if own:
                held.append(tuple(map(sum, zip(*own, strict=True))))
    return {name: figure for name, held in found.items() if (figure := figure_over(held)) is not None}


def _sums(said: Any) -> tuple[float, ...] | None:
    """Return a comparison's scored steps and moments; None for anything that no monitor says."""
    try:
        values = (float(said["own"][STEPS]), *(float(one) for one in said["units"]))
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    good = len(values) == 1 + MOMENTS and all(0 <= value <= LARGEST for value in values)
    return values if good else None


def figure_over(monitors: list[tuple[float, ...]]) -> Figure | None:
    """Return the figure over monitors, each ``(steps, units, A, B, A², AB, B²)``."""
    if not monitors:
        return None
    steps, units, a, b, aa, ab, bb = map(sum, zip(*monitors, strict=True))
    if units < MIN_UNITS or b <= 0:
        return None
    ratio = a / b
    variance = max(aa - 2 * ratio * ab + ratio**2 * bb, 0.0)
    if (count := len(monitors)) > 1:
        over = sum((one[2] - ratio * one[3]) ** 2 for one in monitors)
        variance = max(variance, over * count / (count - 1))
    half = width(units) * math.sqrt(variance) / b
    return Figure(
        percent=100 * (ratio - 1),
        low=100 * (ratio - half - 1),
        high=100 * (ratio + half - 1),
        monitors=count,
        steps=round(steps),
        units=round(units),
    )


def width(units: float) -> float:
    """Return half the width of the sequence at so many units, in standard errors."""
    rho = (-2 * math.log(ALPHA) + math.log(-2 * math.log(ALPHA)) + 1) / TUNED_FOR  # rho², for the least width there
    n = units * rho + 1
    return math.sqrt(2 * n / (n - 1) * math.log(math.sqrt(n) / ALPHA))
