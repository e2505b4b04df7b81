"""Where an adapter helps and where it harms: WQL by step of the horizon, and by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from device_runtime.quality.scores import pinball
from edge_tsfm.evaluation.bootstrap import bounds, patient_sums, ratio, resample
from edge_tsfm.evaluation.report import Estimate, PatientScore, PatientScores

if TYPE_CHECKING:
    from edge_tsfm.data.windows import Windows

FloatArray = NDArray[np.float64]
SHOWN = 10  # patients with the largest loss
WORSE = (0.02, 0.1)  # relative increase of WQL over the base's that is counted


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Settings of the bootstrap: its seed, the number of resamples, and the intervals' confidence."""

    seed: int
    resamples: int
    confidence: float


def wql_by_step(
    forecasts: Mapping[str, NDArray[np.floating]], windows: Windows, levels: Sequence[float], draws: Draws
) -> dict[str, tuple[Estimate, ...]]:
    """Return each forecaster's WQL at each of the H steps, with intervals over patients.

    ``forecasts`` are quantiles ``[N, H, Q]`` at ``levels``. The figure of a step without measured targets is NaN.
    """
    found = {}
    for name, quantiles in forecasts.items():
        sums = patient_sums(step_sums(quantiles, windows.target, levels), windows.drawn)  # [P, H, 2]
        value = ratio(sums.sum(0))
        one = (
            ratio(resample(sums, resamples=draws.resamples, seed=draws.seed)) if len(sums) > 1 else value[None] * np.nan
        )
        low, high = bounds(one, confidence=draws.confidence)
        found[name] = tuple(
            Estimate(value=float(v), low=float(a), high=float(b)) for v, a, b in zip(value, low, high, strict=True)
        )
    return found


def step_sums(quantiles: NDArray[np.floating], target: NDArray[np.float32], levels: Sequence[float]) -> FloatArray:
    """Return ``[N, H, 2]``: numerator and denominator of WQL at each step of each window."""
    seen = ~np.isnan(target)
    y = np.where(seen, target, 0.0).astype(np.float64)
    loss = pinball(quantiles.astype(np.float64), y, np.asarray(levels, dtype=np.float64)).mean(-1)  # [N, H]
    sums: FloatArray = np.stack([np.where(seen, 2 * loss, 0.0), np.abs(y)], axis=-1)
    return sums


def compare_patients(
    adapter: NDArray[np.floating], base: NDArray[np.floating], windows: Windows, levels: Sequence[float]
) -> PatientScores:
    """Compare an adapter's WQL with its frozen base's, separately for each patient (`Windows.drawn`).

    Both are quantiles ``[N, H, Q]``. Patients whose measured targets are all zero, or whose base makes no error, have
    no relative difference and are left out.
    """
    names, counts = np.unique(windows.drawn, return_counts=True)
    wql = [
        ratio(patient_sums(step_sums(one, windows.target, levels).sum(1), windows.drawn)) for one in (adapter, base)
    ]  # [P] each
    known = (wql[1] > 0) & np.isfinite(wql[0])
    relative = wql[0][known] / wql[1][known] - 1
    order = np.argsort(-relative, kind="stable")
    columns = (names[known], counts[known], wql[0][known], wql[1][known], relative)
    scores = [
        PatientScore(item_id=str(name), windows=int(count), adapter=float(one), base=float(other), relative=float(more))
        for name, count, one, other, more in zip(*(column[order] for column in columns), strict=True)
    ]
    return PatientScores(
        relative=tuple(one.relative for one in scores),
        worse={limit: float((relative > limit).mean()) if len(relative) else float("nan") for limit in WORSE},
        worst=tuple(scores[:SHOWN]),
    )
