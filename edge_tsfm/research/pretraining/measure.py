"""The figures of a model card: a base zero-shot beside simple baselines, on patients and on other domains.

``edge-tsfm measure`` prints them; its data are the folder of public data described in docs/guides/pretraining.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_tsfm.data.split import SplitName
from edge_tsfm.errors import DataError
from edge_tsfm.models.base import open_pipeline
from edge_tsfm.research.pretraining.validation import (
    Figures,
    FloatArray,
    Scored,
    figures,
    forecast,
    patients,
    persistence,
    seasonal_naive,
    window_mean,
)

SIGNALS = ("HR", "MAP", "O2Sat", "Resp")
OTHERS = (  # file, season in steps: a day
    ("ett/ETTh1.csv", 24),
    ("nab/ambient_temperature_system_failure.csv", 24),
    ("nab/cpu_utilization_asg_misconfiguration.csv", 288),
    ("nab/ec2_request_latency_system_failure.csv", 288),
    ("nab/machine_temperature_system_failure.csv", 288),
    ("nab/nyc_taxi.csv", 48),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One data set: the base and its baselines, with a 95 % bootstrap interval of the base's gain in MSE."""

    name: str
    windows: int
    scores: dict[str, Figures]
    gain: tuple[float, float] | None  # 1 - MSE / MSE of persistence, over patients

    def lines(self) -> Iterator[str]:
        """Say it as Markdown table rows."""
        for who, got in self.scores.items():
            inside = "–" if np.isnan(got.coverage) else f"{100 * got.coverage:.1f} %"
            yield f"| {self.name} | {self.windows} | {who} | {got.mse:.4g} | {got.wql:.4f} | {inside} |"


def ward_rows(pipeline: Any, data: Path, split: SplitName, limit: int | None) -> Iterator[Row]:
    """Score 48 → 6 hours on one split of hospital A, signal by signal."""
    for signal in SIGNALS:
        windows = patients(data / "physionet2019_hospital_a.parquet", signal, split=split, limit=limit)
        ours = forecast(pipeline, windows.context, windows.target.shape[1])
        last = persistence(windows)
        scores = {
            "base": figures(ours, windows.target),
            "persistence": _point(last, windows),
            "window mean": _point(window_mean(windows), windows),
        }
        gain = gain_interval(windows, ours, last)
        yield Row(name=signal, windows=len(windows.context), scores=scores, gain=gain)


def other_rows(
    pipeline: Any, data: Path, limit: int, context_length: int, prediction_length: int = 24
) -> Iterator[Row]:
    """Score other domains against the seasonal naive forecast; targets do not overlap."""
    for file, season in OTHERS:
        for column, values in _columns(data / file):
            starts = np.arange(0, len(values) - context_length - prediction_length + 1, prediction_length)
            if not len(starts):
                raise DataError(
                    f"{data / file}: {column} has {len(values)} values, want {context_length + prediction_length}"
                )
            starts = np.random.default_rng(0).permutation(starts)[:limit]
            whole = np.stack([values[at : at + context_length + prediction_length] for at in starts])
            windows = Scored(
                name=f"{Path(file).stem} {column}",
                context=whole[:, :context_length],
                target=whole[:, context_length:],
            )
            scores = {
                "base": figures(forecast(pipeline, windows.context, prediction_length), windows.target),
                "seasonal naive": _point(seasonal_naive(windows, season), windows),
                "persistence": _point(persistence(windows), windows),
            }
            yield Row(name=windows.name, windows=len(starts), scores=scores, gain=None)


def _columns(path: Path) -> Iterator[tuple[str, FloatArray]]:
    """Read a CSV's columns but the first, the time: each name and its values ``[N]``. Raises `DataError`."""
    import pandas as pd

    hint = "docs/guides/pretraining.md says what DATA holds"
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}", hint=hint) from error
    if len(table.columns) < 2:
        raise DataError(f"{path} has {len(table.columns)} column, want the time and at least one of values", hint=hint)
    for column in table.columns[1:]:
        try:
            values = table[column].to_numpy(np.float32)
        except ValueError as error:
            numbers = pd.to_numeric(table[column], errors="coerce")
            line = int((numbers.isna() & table[column].notna()).to_numpy().argmax())
            got = str(table[column].iloc[line])[:80]
            raise DataError(f"{path}: {column}: want numbers, got {got!r} at line {line + 2}", hint=hint) from error
        yield str(column), values


def gain_interval(windows: Scored, ours: FloatArray, baseline: FloatArray, *, draws: int = 500) -> tuple[float, float]:
    """Resample patients: 95 % interval of the share of the baseline's squared error that the base removes."""
    seen = ~np.isnan(windows.target)
    square = [np.where(seen, np.square(windows.target - f[..., 4]), 0).sum(1) for f in (ours, baseline)]  # [N] each
    if windows.item_id is None:
        raise ValueError(f"{windows.name}: windows without patients cannot be resampled by patient")
    _, owner = np.unique(windows.item_id, return_inverse=True)
    sums = np.stack([np.bincount(owner, weights=one) for one in square])  # [2, patients]
    rng = np.random.default_rng(0)
    picks = rng.multinomial(sums.shape[1], np.full(sums.shape[1], 1 / sums.shape[1]), size=draws)  # [draws, patients]
    totals = picks @ sums.T
    low, high = np.quantile(1 - totals[:, 0] / totals[:, 1], [0.025, 0.975])
    return float(low), float(high)


def _point(forecasts: FloatArray, windows: Scored) -> Figures:
    """Score a point forecast: it has no interval to cover anything."""
    got = figures(forecasts, windows.target)
    return Figures(mse=got.mse, wql=got.wql, coverage=float("nan"))


def measure(base: str, data: Path, split: SplitName, *, limit: int | None, other_limit: int, samples: int) -> list[Row]:
    """Measure a base zero-shot: on patients of ``split`` by signal, then on other domains.

    ``limit`` is of windows for each signal, ``other_limit`` for each other series; ``samples`` are the paths of a
    Chronos-T5's forecast. Raises `DataError` where a file is missing, `ModelError` for what is no base.
    """
    from chronos import ChronosPipeline

    pipeline = open_pipeline(base)
    if isinstance(pipeline, ChronosPipeline):
        pipeline.model.config.num_samples = samples
    context_length = min(512, pipeline.model_context_length)
    return [*ward_rows(pipeline, data, split, limit), *other_rows(pipeline, data, other_limit, context_length)]
