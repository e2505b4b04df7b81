"""Recording effects between a quantity and its record: holds, rounding, artefacts, dropouts, missing values, short
records.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_tsfm.research.pretraining.draw import Draw


def observe(series: Tensor, draw: Draw) -> Tensor:
    """Pass series [B, T] through an imperfect recorder; missing values become NaN."""
    rows, length = series.shape
    spread = series.std(dim=1, keepdim=True)
    held = hold(series, draw.chance(0.12, rows, 1) * draw.uniform(0.05, 0.6, rows, 1), draw)
    step = spread * draw.log_uniform(0.05, 0.8, rows, 1)
    rounded = torch.where(draw.chance(0.1, rows, 1) > 0, torch.round(held / step) * step, held)
    rate = draw.chance(0.12, rows, 1) * draw.log_uniform(0.002, 0.05, rows, 1)
    spikes = draw.chance(rate, rows, length) * draw.normal(rows, length) * 6 * spread
    return torch.where(dropout(rows, length, draw), torch.nan, rounded + spikes)


def hold(series: Tensor, probability: Tensor, draw: Draw) -> Tensor:
    """Repeat the previous value with ``probability`` [B, 1], as a chart does without a new measurement."""
    rows, length = series.shape
    fresh = draw.chance(probability, rows, length) == 0
    fresh[:, 0] = True
    last = torch.where(fresh, torch.arange(length, device=series.device), 0).cummax(1).values
    return series.gather(1, last)


def dropout(rows: int, length: int, draw: Draw) -> Tensor:
    """True where nothing was recorded: scattered single values and whole runs, [rows, length]."""
    single = draw.chance(draw.chance(0.5, rows, 1) * draw.uniform(0, 0.35, rows, 1), rows, length) > 0
    start = draw.uniform(-0.3, 1.0, rows, 1) * length
    run = draw.chance(0.2, rows, 1) * draw.uniform(0, 0.3, rows, 1) * length
    step = torch.arange(length, device=draw.device)[None]
    return single | ((step >= start) & (step < start + run))


def shorten(context: Tensor, draw: Draw) -> Tensor:
    """Hide the older part of half of the contexts [B, L], as for a patient who has just been admitted."""
    rows, length = context.shape
    hidden = draw.chance(0.5, rows, 1) * draw.uniform(0, 0.8, rows, 1) * length
    return torch.where(torch.arange(length, device=context.device)[None] < hidden, torch.nan, context)
