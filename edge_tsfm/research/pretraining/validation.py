"""Zero-shot figures while a base trains: on held-out generated series, and on real patients of the validation
split.

Real data are only scored: they never reach the optimiser, and the patients of the test split are never read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tsfm.data.read import read_dataset
from edge_tsfm.data.split import SplitName, split_of
from edge_tsfm.data.windows import make_windows
from edge_tsfm.errors import DataError
from edge_tsfm.research.pretraining.build import QUANTILE_LEVELS
from edge_tsfm.research.pretraining.config import PretrainConfig
from edge_tsfm.research.pretraining.corpus import draw_batch
from edge_tsfm.research.pretraining.objective import batch_loss

FloatArray = NDArray[np.float32]
LEVELS = np.array(QUANTILE_LEVELS, dtype=np.float32)
MEDIAN = 4


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Windows to forecast: ``context`` [N, L], ``target`` [N, H], NaN = missing."""

    name: str
    context: FloatArray
    target: FloatArray
    item_id: NDArray[np.str_] | None = None  # [N], the patient of each window


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Errors of one forecaster; ``coverage`` is the share of values inside the 80 % interval (NaN for a
    point).
    """

    mse: float
    wql: float
    coverage: float


def patients(
    path: Path,
    target: str,
    *,
    split: SplitName = "validation",
    context_length: int = 48,
    prediction_length: int = 6,
    limit: int | None = None,
) -> Scored:
    """Cut one signal of one split into windows whose targets do not overlap; a fixed random ``limit`` of
    them.

    Raises:
        DataError: the split has no patient with a window.
    """
    data = read_dataset(path, target=target)
    windows = make_windows(
        (one for one in data.series if split_of(one.item_id) == split),
        context_length=context_length,
        prediction_length=prediction_length,
        stride=prediction_length,
    )
    if not len(windows):
        raise DataError(f"{path} has no {split} window of {data.signal}: {context_length} → {prediction_length} steps")
    chosen = np.random.default_rng(0).permutation(len(windows))[:limit]
    return Scored(
        name=data.signal,
        context=windows.context[chosen],
        target=windows.target[chosen],
        item_id=windows.item_id[chosen],
    )


def pipeline_of(model: Any) -> Any:
    """Wrap a model in memory as chronos-forecasting's own pipeline."""
    from chronos import ChronosBoltPipeline, ChronosConfig, ChronosPipeline
    from chronos.chronos import ChronosModel

    if hasattr(model, "chronos_config"):
        return ChronosBoltPipeline(model=model)
    config = ChronosConfig(**model.config.chronos_config)
    return ChronosPipeline(tokenizer=config.create_tokenizer(), model=ChronosModel(config=config, model=model))


def forecast(pipeline: Any, context: FloatArray, prediction_length: int, *, rows: int = 256) -> FloatArray:
    """Forecast the nine quantiles of every window, [N, H, 9], ``rows`` at a time; sampling is seeded."""
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for first in range(0, len(context), rows):
            part, _ = pipeline.predict_quantiles(
                torch.from_numpy(context[first : first + rows]),
                prediction_length=prediction_length,
                quantile_levels=list(QUANTILE_LEVELS),
            )
            parts.append(part.float().cpu().numpy())
    return np.concatenate(parts)


def figures(quantiles: FloatArray, target: FloatArray) -> Figures:
    """Score quantiles [N, H, 9], or a point forecast repeated at every level.

    MSE is the median's; WQL is twice the summed pinball loss over the summed absolute target, mean over
    levels.
    """
    seen = ~np.isnan(target)
    error = target[..., None] - quantiles  # [N, H, Q]
    pinball = 2 * np.maximum(LEVELS * error, (LEVELS - 1) * error)[seen]
    inside = (error[..., 0] >= 0) & (error[..., -1] <= 0)
    return Figures(
        mse=float(np.mean(np.square(error[..., MEDIAN][seen], dtype=np.float64))),
        wql=float(pinball.mean(dtype=np.float64) / np.abs(target[seen]).mean(dtype=np.float64)),
        coverage=float(inside[seen].mean()),
    )


def persistence(windows: Scored) -> FloatArray:
    """Repeat the last observed value, [N, H, 9]."""
    step = np.where(np.isnan(windows.context), 0, np.arange(windows.context.shape[1]))
    last = np.take_along_axis(windows.context, step.max(axis=1, keepdims=True), axis=1)  # [N, 1]
    return _repeated(last, windows)


def window_mean(windows: Scored) -> FloatArray:
    """Repeat the mean of the context, [N, H, 9]."""
    return _repeated(np.nanmean(windows.context, axis=1, keepdims=True), windows)


def seasonal_naive(windows: Scored, season: int) -> FloatArray:
    """Repeat the last season (its latest observed value at each phase; the context's mean where none), [N, H,
    9].
    """
    rows, length = windows.context.shape
    steps = windows.target.shape[1]
    out = np.repeat(np.nanmean(windows.context, axis=1, keepdims=True), steps, axis=1)
    for step in range(steps):
        phase = windows.context[:, (length + step) % season :: season]  # [N, seasons]
        if not phase.shape[1]:
            continue  # the season is longer than the context
        seen = ~np.isnan(phase)
        newest = phase.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
        found = seen.any(axis=1)
        out[found, step] = phase[np.arange(rows), newest][found]
    return np.repeat(out[..., None], len(LEVELS), axis=2).astype(np.float32)


def _repeated(value: NDArray[Any], windows: Scored) -> FloatArray:
    """Spread [N, 1] over steps and levels."""
    shape = (*windows.target.shape, len(LEVELS))
    return np.broadcast_to(value[..., None], shape).astype(np.float32)


def synthetic_loss(model: Any, config: PretrainConfig, device: torch.device, *, batches: int = 8) -> float:
    """Mean training objective over held-out generated batches, the same ones every time."""
    losses = []
    for step in range(batches):
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=config.optimiser.bf16):
            losses.append(
                float(batch_loss(model, draw_batch(config.corpus, step, device=device, stream=1), config.optimiser))
            )
    return float(np.mean(losses))


def zero_shot(model: Any, sets: Iterable[Scored]) -> dict[str, float]:
    """Score a model on real windows: ``mse_NAME``, ``wql_NAME``, ``coverage_NAME`` for the curve."""
    pipeline = pipeline_of(model)
    row: dict[str, float] = {}
    for windows in sets:
        got = figures(forecast(pipeline, windows.context, windows.target.shape[1]), windows.target)
        row |= {
            f"mse_{windows.name}": got.mse,
            f"wql_{windows.name}": got.wql,
            f"coverage_{windows.name}": got.coverage,
        }
    return row
