"""Drawing an evaluation onto axes: forecasts, figures, calibration, error by step, patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from device_runtime.quality.scores import INTERVAL
from edge_tsfm.data.windows import Windows
from edge_tsfm.evaluation.metrics import METRICS, at_level
from edge_tsfm.evaluation.report import ADAPTER, BASE, CALIBRATED, DEVICE, DEVICE_BASE, LABELS, PatientScores, Report
from edge_tsfm.report.scale import Scale

PERSISTENCE, MEASURED = "persistence", "measured"
# Okabe and Ito: distinguishable for colour-blind readers too
COLOURS = {ADAPTER: "#0072b2", BASE: "#d55e00", CALIBRATED: "#009e73", PERSISTENCE: "#777777"}
TRUTH, GUIDE, OTHER = "#222222", "#999999", "#009e73"
RULE = "{unit}s drawn at random with seed {seed}, then one of each {unit}'s windows"
STEPPED = (ADAPTER, BASE, PERSISTENCE)
IN_TORCH = (ADAPTER, BASE, CALIBRATED)  # the device's forecasts lie on their like in torch


def choose_windows(windows: Windows, *, count: int, seed: int) -> NDArray[np.int64]:
    """Choose windows to show without looking at any forecast: random patients, one random window of each.

    Returns at most ``count`` places, in drawn order; the same for every adapter scored on these windows.
    """
    rng = np.random.default_rng(seed)
    patients = rng.permutation(np.unique(windows.drawn))[:count]
    return np.array([rng.choice(np.flatnonzero(windows.drawn == one)) for one in patients], dtype=np.int64)


def draw_window(
    axis: Axes,
    forecasts: Mapping[str, NDArray[np.floating]],
    windows: Windows,
    quantile_levels: Sequence[float],
    n: int,
    scale: Scale,
) -> None:
    """Draw window ``n``: its context, its truth, and each forecast's median with its 80 % band."""
    context, target = windows.context[n], windows.target[n]
    levels = np.asarray(quantile_levels, dtype=np.float64)
    past, ahead = (scale.step * np.arange(*ends) for ends in ((-len(context) + 1, 1), (1, len(target) + 1)))
    first = int(np.flatnonzero(~np.isnan(context))[0])
    axis.plot(past[first:], context[first:], color=TRUTH, linewidth=1, marker=".", markersize=2)
    axis.plot(ahead, target, color=TRUTH, linewidth=0, marker="o", markersize=4, label=MEASURED, zorder=3, gid=MEASURED)
    for name, quantiles in forecasts.items():
        if name in (DEVICE, DEVICE_BASE):
            continue
        one = quantiles[n].astype(np.float64)
        colour = COLOURS.get(name, OTHER)
        low, high = (at_level(one, levels, level) for level in INTERVAL)
        axis.fill_between(ahead, low, high, color=colour, alpha=0.22, linewidth=0, gid=name)
        median = at_level(one, levels, 0.5)
        axis.plot(ahead, median, color=colour, linewidth=1.6, label=LABELS.get(name, name), gid=name)
    axis.axvline(scale.step / 2, color=GUIDE, linewidth=0.6, linestyle=":")
    _label(axis, f"{scale.clock} from the last of the context", scale.value_label)
    axis.legend(fontsize=7, loc="best")


def draw_metric(axis: Axes, report: Report, key: str, scale: Scale) -> None:
    """Draw one figure of every forecaster as a dot with its bootstrap interval."""
    metric, names = METRICS[key], list(report.overall.models)
    factor = 100 if metric.percent else 1
    for row, name in enumerate(names):
        one = report.overall.models[name][key]
        colour = COLOURS.get(name, "#777777")
        axis.plot([factor * one.low, factor * one.high], [row, row], color=colour, linewidth=2, alpha=0.5)
        axis.plot([factor * one.value], [row], color=colour, marker="o", markersize=5)
    if metric.nominal is not None:
        axis.axvline(factor * metric.nominal, color=GUIDE, linewidth=0.8, linestyle="--")
    axis.set_yticks(range(len(names)), [LABELS.get(name, name) for name in names])
    axis.invert_yaxis()
    unit = unit_of(key, scale)
    _label(axis, f"{metric.label}{f' [{unit}]' if unit else ''}", "")
    axis.grid(axis="x", alpha=0.3)


def unit_of(key: str, scale: Scale) -> str:
    """Return the unit of a figure: percent, the signal's, its square, or none."""
    if METRICS[key].percent:
        return "%"
    return {"mse": scale.squared(), "mae": scale.unit, "dtw": scale.unit, "width": scale.unit}.get(key, "")


def draw_calibration(axis: Axes, report: Report) -> None:
    """Draw the share of measured values at or below each quantile against its level."""
    axis.plot([0, 100], [0, 100], color=GUIDE, linewidth=0.8, linestyle="--", label="calibrated")
    levels = [100 * level for level in report.quantile_levels]
    for name in IN_TORCH:
        if name in report.calibration:
            shares = [100 * share for share in report.calibration[name]]
            axis.plot(levels, shares, color=COLOURS[name], marker="o", markersize=3, label=LABELS[name], gid=name)
    _label(axis, "quantile level [%]", "measured values at or below it [%]")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


def draw_steps(axis: Axes, report: Report, scale: Scale) -> None:
    """Draw WQL by step of the horizon with its intervals."""
    for name in STEPPED:
        if name not in report.wql_by_step:
            continue
        steps = report.wql_by_step[name]
        ahead = scale.step * np.arange(1, len(steps) + 1)
        low, high = [one.low for one in steps], [one.high for one in steps]
        axis.fill_between(ahead, low, high, color=COLOURS[name], alpha=0.18, linewidth=0, gid=name)
        value = [one.value for one in steps]
        axis.plot(ahead, value, color=COLOURS[name], marker="o", markersize=3, label=LABELS[name], gid=name)
    _label(axis, f"{scale.clock} ahead", "WQL")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


def draw_patients(axis: Axes, scores: PatientScores, unit: str) -> None:
    """Draw each patient's difference from the frozen base, the largest gain at the left."""
    change = 100 * np.array(scores.relative[::-1])
    at = 100 * (np.arange(len(change)) + 0.5) / max(len(change), 1)
    for side, colour in ((change <= 0, COLOURS[ADAPTER]), (change > 0, COLOURS[BASE])):
        axis.vlines(at[side], 0, change[side], color=colour, linewidth=max(0.4, min(3.0, 250 / max(len(change), 1))))
    axis.axhline(0, color=TRUTH, linewidth=0.8)
    _label(axis, f"{unit}s, from the largest gain to the largest loss [%]", "WQL against the frozen base [%]")
    axis.grid(axis="y", alpha=0.3)


def _label(axis: Axes, across: str, up: str) -> None:
    axis.set_xlabel(across, fontsize=8, parse_math=False)  # a name with two $ is no formula
    axis.set_ylabel(up, fontsize=8, parse_math=False)
    axis.tick_params(labelsize=8)
