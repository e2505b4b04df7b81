"""The values of an evaluation's charts, as text: of a window, of calibration, of the error by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from device_runtime.quality.scores import INTERVAL
from edge_tsfm.data.windows import Windows
from edge_tsfm.evaluation.metrics import at_level
from edge_tsfm.evaluation.report import DEVICE, DEVICE_BASE, LABELS, Report
from edge_tsfm.report.charts import Across, Curve
from edge_tsfm.report.plots import COLOURS, IN_TORCH, MEASURED, OTHER, STEPPED, TRUTH
from edge_tsfm.report.scale import Scale
from edge_tsfm.report.text import say_estimate


def steps_ahead(scale: Scale, count: int) -> Across:
    """Return the steps ahead as places, in the unit of time that the axis has."""
    at = tuple(float(scale.step * step) for step in range(1, count + 1))
    units = [scale.clock.removesuffix("s") if time == 1 else scale.clock for time in at]
    return Across(label="ahead", at=at, named=tuple(f"{time:g} {unit}" for time, unit in zip(at, units, strict=True)))


def window_curves(
    forecasts: Mapping[str, NDArray[np.floating]], windows: Windows, levels: Sequence[float], n: int
) -> list[Curve]:
    """Return what was measured in window ``n``, and each forecast's median with its 80 % band in brackets."""
    measured = ["–" if np.isnan(value) else f"{value:.4g}" for value in windows.target[n]]
    curves = [Curve(name=MEASURED, label=MEASURED, colour=TRUTH, values=tuple(measured))]
    for name, quantiles in forecasts.items():
        if name in (DEVICE, DEVICE_BASE):
            continue
        one = quantiles[n].astype(np.float64)
        low, median, high = (at_level(one, np.asarray(levels), level) for level in (INTERVAL[0], 0.5, INTERVAL[1]))
        said = tuple(f"{m:.4g} ({a:.4g} to {b:.4g})" for a, m, b in zip(low, median, high, strict=True))
        curves.append(Curve(name=name, label=LABELS.get(name, name), colour=COLOURS.get(name, OTHER), values=said))
    return curves


def calibration_curves(report: Report) -> tuple[Across, list[Curve]]:
    """Return the share of measured values at or below each quantile level."""
    levels = [100 * level for level in report.quantile_levels]
    across = Across(label="quantile level", at=tuple(levels), named=tuple(f"{level:g} %" for level in levels))
    shares = {name: report.calibration[name] for name in IN_TORCH if name in report.calibration}
    return across, [
        Curve(name=name, label=LABELS[name], colour=COLOURS[name], values=tuple(f"{100 * x:.1f} %" for x in share))
        for name, share in shares.items()
    ]


def step_curves(report: Report) -> list[Curve]:
    """Return WQL at each step ahead, with its interval in brackets."""
    by_step = {name: report.wql_by_step[name] for name in STEPPED if name in report.wql_by_step}
    return [
        Curve(
            name=name,
            label=LABELS[name],
            colour=COLOURS[name],
            values=tuple(say_estimate(one, "wql") for one in steps),
        )
        for name, steps in by_step.items()
    ]
