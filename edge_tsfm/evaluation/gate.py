"""The gate: an adapter is accepted only if it is significantly better than its frozen base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.errors import ConfigError, DataError
from edge_tsfm.evaluation.bootstrap import patient_sums
from edge_tsfm.evaluation.evaluate import paired
from edge_tsfm.evaluation.metrics import METRICS, check_forecast, score_windows
from edge_tsfm.evaluation.report import FEW_PATIENTS, Estimate

if TYPE_CHECKING:
    from edge_tsfm.data.windows import Windows


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """Whether an adapter may be shipped, and why.

    ``difference`` is the relative difference of ``metric`` to the frozen base's (negative is better) and
    ``interval`` its paired bootstrap interval over patients; NaN where undefined.
    """

    accepted: bool
    reason: str
    metric: str
    adapter: float
    base: float
    difference: float
    interval: tuple[float, float]
    confidence: float
    patients: int
    windows: int
    seed: int

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values, undefined as null."""
        estimate = Estimate(value=self.difference, low=self.interval[0], high=self.interval[1]).to_dict()
        values = vars(self) | {"difference": estimate["value"], "interval": [estimate["low"], estimate["high"]]}
        undefined = [key for key in ("adapter", "base") if np.isnan(values[key])]
        return values | dict.fromkeys(undefined)


def apply_gate(
    adapter_quantiles: NDArray[np.floating],
    base_quantiles: NDArray[np.floating],
    windows: Windows,
    quantile_levels: Sequence[float],
    *,
    metric: str = "wql",
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
    min_patients: int = FEW_PATIENTS,
) -> GateResult:
    """Compare two forecasts ``[N, H, Q]`` of windows that training did not fit, paired by patient.

    Accepted only when the upper bound of the central ``confidence`` interval of the relative difference lies
    below zero, over at least ``min_patients`` patients with a scored window. A forecast that is not finite is
    refused, not an error.

    Raises `ConfigError` for an unknown metric, `DataError` when nothing can be scored, `ModelError` for a
    forecast of the wrong shape or a base that is not finite.
    """
    _check_rule(metric, confidence)
    scored = (~np.isnan(windows.target)).any(1)
    if not scored.any():
        raise DataError(f"{len(windows)} windows hold no observed target value: nothing to judge by")
    check_forecast(base_quantiles, windows, quantile_levels)
    broken = ~np.isfinite(adapter_quantiles)
    forecasts = (np.where(broken, 0, adapter_quantiles), base_quantiles)
    scores = np.stack([score_windows(q, windows, quantile_levels) for q in forecasts], axis=1)
    sums = patient_sums(scores[scored], windows.drawn[scored])  # [P, 2, M, 2]
    m = list(METRICS).index(metric)
    figures, _, relative = paired(sums[:, :, m : m + 1], seed=seed, resamples=resamples, confidence=confidence)
    adapter, base = (float(value) for value in figures[0, :, 0])
    difference, low, high = (float(value) for value in relative[:, 1, 0])
    compared = f"{METRICS[metric].label} {say_change(difference)} the frozen base's on {len(sums)} {windows.unit}s"
    interval = f"{confidence:.0%} interval {100 * low:+.1f} to {100 * high:+.1f} %"
    if broken.any():
        adapter = difference = low = high = float("nan")
        refusal = f"{int(broken.any((1, 2)).sum())} of {len(windows)} forecasts of the adapter are not finite"
    elif np.array_equal(adapter_quantiles, base_quantiles):
        refusal = "the adapter forecasts exactly what the frozen base does"
    elif len(sums) < min_patients:
        refusal = f"only {len(sums)} {windows.unit}s could be scored; an interval to trust needs {min_patients}"
    elif np.isnan(high):
        refusal = f"{METRICS[metric].label} is undefined or zero for the frozen base: nothing to improve on"
    elif high >= 0:
        refusal = f"{compared}, and the {interval} {'is above' if low > 0 else 'does not exclude'} zero"
    else:
        refusal = ""
    return GateResult(
        accepted=not refusal,
        reason=refusal or f"{compared} ({interval})",
        metric=metric,
        adapter=adapter,
        base=base,
        difference=difference,
        interval=(low, high),
        confidence=confidence,
        patients=len(sums),
        windows=int(scored.sum()),
        seed=seed,
    )


def _check_rule(metric: str, confidence: float) -> None:
    """Refuse a rule that decides nothing. Raises `ConfigError`."""
    if metric not in METRICS or METRICS[metric].better != "lower":
        wanted = ", ".join(name for name, one in METRICS.items() if one.better == "lower")
        raise ConfigError(f"the gate cannot use {metric!r}; choose one of {wanted}")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence {confidence} must lie in 0 to 1")


def say_change(relative: float) -> str:
    """Format a relative difference: ``3.2 % lower than``, ``the same as``."""
    if not abs(relative) >= 5e-4:
        return "the same as"
    return f"{100 * abs(relative):.1f} % {'lower' if relative < 0 else 'higher'} than"
