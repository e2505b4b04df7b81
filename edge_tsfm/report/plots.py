"""Pictures of an evaluation: forecasts with their 80 % bands, and the figures with their intervals."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from device_runtime.quality.scores import INTERVAL
from edge_tsfm.data.windows import Windows
from edge_tsfm.evaluation.metrics import METRICS, at_level
from edge_tsfm.evaluation.report import ADAPTER, BASE, DEVICE, DEVICE_BASE, LABELS, Report

COLOURS = {ADAPTER: "#0072b2", BASE: "#d55e00"}  # Okabe and Ito: distinguishable for colour-blind readers too
TRUTH = "#222222"
RULE = "{unit}s drawn at random with seed {seed}, then one of each {unit}'s windows"


def choose_windows(windows: Windows, *, count: int, seed: int) -> NDArray[np.int64]:
    """Choose windows to show without looking at any forecast: random patients, one random window of each.

    Returns at most ``count`` places, in drawn order; the same for every adapter scored on these windows.
    """
    rng = np.random.default_rng(seed)
    patients = rng.permutation(np.unique(windows.drawn))[:count]
    return np.array([rng.choice(np.flatnonzero(windows.drawn == one)) for one in patients], dtype=np.int64)


def forecast_plot(
    forecasts: Mapping[str, NDArray[np.floating]],
    windows: Windows,
    quantile_levels: Sequence[float],
    *,
    count: int = 6,
    seed: int = 0,
    title: str = "",
) -> bytes:
    """Draw context, truth, and each forecast's median with its 80 % band; PNG bytes."""
    chosen = choose_windows(windows, count=count, seed=seed)
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(4.6 * columns, 2.9 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, n in zip(axes, chosen, strict=False):
        _draw_window(axis, forecasts, windows, quantile_levels, int(n))
    for axis in axes[len(chosen) :]:
        axis.remove()
    axes[0].legend(fontsize=7, loc="best")
    rule = RULE.format(seed=seed, unit=windows.unit)
    figure.suptitle(f"{title}\n{rule}" if title else rule, fontsize=9)
    return _png(figure)


def _draw_window(
    axis: Axes,
    forecasts: Mapping[str, NDArray[np.floating]],
    windows: Windows,
    quantile_levels: Sequence[float],
    n: int,
) -> None:
    context, target = windows.context[n], windows.target[n]
    levels = np.asarray(quantile_levels, dtype=np.float64)
    past, ahead = np.arange(-len(context) + 1, 1), np.arange(1, len(target) + 1)
    first = int(np.flatnonzero(~np.isnan(context))[0])
    axis.plot(past[first:], context[first:], color=TRUTH, linewidth=1, marker=".", markersize=2)
    axis.plot(ahead, target, color=TRUTH, linewidth=0, marker="o", markersize=4, label="measured", zorder=3)
    for name, quantiles in forecasts.items():
        if name in (DEVICE, DEVICE_BASE):
            continue  # they lie on their like in torch
        one = quantiles[n].astype(np.float64)
        colour = COLOURS.get(name, "#009e73")
        low, high = (at_level(one, levels, level) for level in INTERVAL)
        axis.fill_between(ahead, low, high, color=colour, alpha=0.22, linewidth=0)
        axis.plot(ahead, at_level(one, levels, 0.5), color=colour, linewidth=1.6, label=LABELS.get(name, name))
    axis.axvline(0.5, color="#999999", linewidth=0.6, linestyle=":")
    axis.set_title(f"{windows.item_id[n]}, place {windows.cutoff[n]}", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.set_xlabel("steps from the last of the context", fontsize=7)


def metric_plot(report: Report, *, title: str = "") -> bytes:
    """Draw every figure of every forecaster as a dot with its bootstrap interval; PNG bytes."""
    names = list(report.overall.models)
    figure = Figure(figsize=(12, 0.34 * len(names) * 2 + 1.8), layout="constrained")
    axes = figure.subplots(2, -(-len(METRICS) // 2), sharey=True).ravel()
    for axis, (key, metric) in zip(axes, METRICS.items(), strict=True):
        scale = 100 if metric.percent else 1
        for row, name in enumerate(names):
            one = report.overall.models[name][key]
            colour = COLOURS.get(name, "#777777")
            axis.plot([scale * one.low, scale * one.high], [row, row], color=colour, linewidth=2, alpha=0.5)
            axis.plot([scale * one.value], [row], color=colour, marker="o", markersize=5)
        if metric.nominal is not None:
            axis.axvline(scale * metric.nominal, color="#999999", linewidth=0.8, linestyle="--")
        axis.set_title(f"{metric.label}{' [%]' if metric.percent else ''}", fontsize=9)
        axis.set_yticks(range(len(names)), [LABELS.get(name, name) for name in names], fontsize=8)
        axis.tick_params(axis="x", labelsize=7)
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    units = f"{report.overall.unit}s"
    note = f"{report.overall.patients:,} {units}; bars: {report.confidence:.0%} bootstrap intervals over {units}"
    figure.suptitle(f"{title}\n{note}" if title else note, fontsize=9)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    return picture.getvalue()
