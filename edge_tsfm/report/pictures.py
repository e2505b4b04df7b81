"""An evaluation's pictures: with alternative text for a page, and as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from device_runtime.quality.scores import INTERVAL
from edge_tsfm.data.windows import Windows
from edge_tsfm.evaluation.metrics import METRICS, at_level
from edge_tsfm.evaluation.report import ADAPTER, BASE, LABELS, Report
from edge_tsfm.report.charts import chart
from edge_tsfm.report.curves import calibration_curves, step_curves, steps_ahead, window_curves
from edge_tsfm.report.document import Picture
from edge_tsfm.report.figures import Draw, png_grid, svg
from edge_tsfm.report.plots import (
    RULE,
    choose_windows,
    draw_calibration,
    draw_metric,
    draw_patients,
    draw_steps,
    draw_window,
)
from edge_tsfm.report.scale import Scale
from edge_tsfm.report.text import METRIC_ORDER, say

SHOWN = 6  # windows


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Forecasts, some of which are drawn: quantiles ``[N, H, Q]`` by forecaster, for the N ``windows``."""

    scale: Scale
    windows: Windows
    forecasts: Mapping[str, NDArray[np.floating]]
    quantile_levels: Sequence[float]  # Q
    seed: int = 0
    count: int = SHOWN

    @property
    def rule(self) -> str:
        """Return a sentence on how the windows were chosen."""
        return RULE.format(seed=self.seed, unit=self.windows.unit)

    @property
    def chosen(self) -> NDArray[np.int64]:
        """Return the indices of the windows to draw."""
        return choose_windows(self.windows, count=self.count, seed=self.seed)


def forecast_pictures(shown: Shown) -> tuple[Picture, ...]:
    """Draw the chosen windows, one picture each."""
    ahead = steps_ahead(shown.scale, shown.windows.target.shape[1])
    return tuple(
        chart(
            _named(shown, int(n)),
            _window_in_words(shown, int(n)),
            _window(shown, int(n)),
            ahead,
            window_curves(shown.forecasts, shown.windows, shown.quantile_levels, int(n)),
        )
        for n in shown.chosen
    )


def figure_pictures(report: Report, scale: Scale) -> tuple[Picture, ...]:
    """Draw every figure of every forecaster, one picture for each figure."""
    return tuple(
        Picture(
            caption=METRICS[key].label,
            alt=f"{METRICS[key].label} of each forecaster with its interval; the table of figures has the numbers.",
            data=svg(partial(draw_metric, report=report, key=key, scale=scale)),
        )
        for key in METRIC_ORDER
    )


def calibration_picture(report: Report) -> Picture:
    """Draw the share of measured values below each quantile."""
    said = [
        f"{LABELS[name]}: "
        + ", ".join(
            f"{100 * share:.0f} % at {100 * level:g} %"
            for level, share in zip(report.quantile_levels, report.calibration[name], strict=True)
        )
        for name in (ADAPTER, BASE)
        if name in report.calibration
    ]
    return chart(
        "Calibration: a calibrated forecaster lies on the dashed line",
        f"Share of measured values at or below each quantile level. {'. '.join(said)}.",
        partial(draw_calibration, report=report),
        *calibration_curves(report),
    )


def steps_picture(report: Report, scale: Scale) -> Picture:
    """Draw WQL by step."""
    ends = []
    for name in (ADAPTER, BASE):
        if name in report.wql_by_step:
            first, last = (say(report.wql_by_step[name][at].value, METRICS["wql"]) for at in (0, -1))
            ends.append(f"{LABELS[name]} from {first} to {last}")
    return chart(
        f"WQL by {scale.clock} ahead, with {report.confidence:.0%} intervals",
        f"WQL from the first to the last of {report.prediction_length} steps: {', '.join(ends)}.",
        partial(draw_steps, report=report, scale=scale),
        steps_ahead(scale, report.prediction_length),
        step_curves(report),
    )


def patients_picture(report: Report) -> Picture | None:
    """Draw every patient's difference from the base; None if there is nothing to compare."""
    scores, unit = report.by_patient, report.overall.unit
    if scores is None or not scores.relative:
        return None
    gained = sum(change < 0 for change in scores.relative)
    return Picture(
        caption=f"Each {unit}'s WQL against the frozen base's: below zero the adapter is better",
        alt=f"The adapter's WQL is lower than its base's for {gained} of {len(scores.relative)} {unit}s; the largest "
        f"loss is {100 * scores.relative[0]:+.1f} %, the largest gain {100 * scores.relative[-1]:+.1f} %.",
        data=svg(partial(draw_patients, scores=scores, unit=unit)),
    )


def forecasts_file(shown: Shown, title: str) -> bytes:
    """Draw the chosen windows into one picture; PNG bytes."""
    draws = [partial(_titled, draw=_window(shown, int(n)), title=_named(shown, int(n))) for n in shown.chosen]
    return png_grid(draws, columns=3, size=(4.6, 2.9), title=_under(title, shown.rule))


def plot_files(report: Report, shown: Shown, title: str) -> dict[str, bytes]:
    """Draw the same pictures as PNG files, by name."""
    units = f"{report.overall.unit}s"
    note = f"{report.overall.patients:,} {units}; bars: {report.confidence:.0%} bootstrap intervals over {units}"
    files = {
        "forecasts": forecasts_file(shown, title),
        "figures": png_grid(
            [partial(draw_metric, report=report, key=key, scale=shown.scale) for key in METRIC_ORDER],
            columns=4, size=(4.2, 3.0), title=_under(title, note),
        ),
        "calibration": png_grid(
            [partial(draw_calibration, report=report)], columns=1, size=(5.2, 4.2), title=_under(title, note)
        ),
        "steps": png_grid(
            [partial(draw_steps, report=report, scale=shown.scale)], columns=1, size=(5.2, 3.4),
            title=_under(title, note),
        ),
    }  # fmt: skip
    if report.by_patient is not None and report.by_patient.relative:
        draw = partial(draw_patients, scores=report.by_patient, unit=report.overall.unit)
        files["patients"] = png_grid([draw], columns=1, size=(5.2, 3.4), title=title)
    return files


def _under(title: str, note: str) -> str:
    return f"{title}\n{note}" if title else note


def _titled(axis: Axes, draw: Draw, title: str) -> None:
    draw(axis)
    axis.set_title(title, fontsize=8, parse_math=False)


def _named(shown: Shown, n: int) -> str:
    return f"{shown.windows.unit} {shown.windows.item_id[n]}, place {shown.windows.cutoff[n]}"


def _window(shown: Shown, n: int) -> partial[None]:
    return partial(
        draw_window,
        forecasts=shown.forecasts,
        windows=shown.windows,
        quantile_levels=shown.quantile_levels,
        n=n,
        scale=shown.scale,
    )


def _window_in_words(shown: Shown, n: int) -> str:
    """Return the alternative text of a window's picture."""
    target, levels = shown.windows.target[n].astype(np.float64), np.asarray(shown.quantile_levels)
    seen = ~np.isnan(target)
    said = []
    for name in (ADAPTER, BASE):
        if name in shown.forecasts:
            one = shown.forecasts[name][n].astype(np.float64)
            low, high = (at_level(one, levels, level) for level in INTERVAL)
            inside = int((seen & (low <= target) & (target <= high)).sum())
            median = _range(at_level(one, levels, 0.5))
            said.append(f"the {LABELS[name]}'s 80 % band holds {inside} of them, its median {median}")
    measured = _range(target[seen]) if seen.any() else "nothing"
    return (
        f"{shown.scale.value_label}: context {_range(shown.windows.context[n])}; "
        f"{int(seen.sum())} values measured in {len(target)} steps ahead, {measured}; {'; '.join(said)}."
    )


def _range(values: NDArray[np.floating]) -> str:
    return f"from {np.nanmin(values):.4g} to {np.nanmax(values):.4g}"
