"""The training corpus: a seeded, endless mixture of generators, one batch per step.

Batch ``step`` is a function of (seed, step, rank) alone. Contexts come in a few fixed lengths so that short
ones, which a ward mostly has, cost what they are worth; the number of series in a batch grows as the context
shrinks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_tsfm.research.pretraining.broad import counts, machines, seasonal, walks
from edge_tsfm.research.pretraining.config import CorpusConfig
from edge_tsfm.research.pretraining.draw import Draw
from edge_tsfm.research.pretraining.kernelsynth import kernel_synth
from edge_tsfm.research.pretraining.monitor import observe, shorten
from edge_tsfm.research.pretraining.vitals import vital_signs

GENERATORS: dict[str, Callable[[int, int, Draw], Tensor]] = {
    "vital_signs": vital_signs,
    "kernel_synth": kernel_synth,
    "seasonal": seasonal,
    "walks": walks,
    "counts": counts,
    "machines": machines,
}
IN_OWN_UNITS = ("vital_signs", "counts")  # the others are of order one and get a level and a unit here
MAX_MIXED = 3  # series per TSMixup mixture


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Contexts [B, L] left-padded with NaN and their targets [B, H]; NaN = missing, never scored."""

    context: Tensor
    target: Tensor


def draw_batch(
    config: CorpusConfig, step: int, *, rank: int = 0, device: torch.device | str = "cpu", stream: int = 0
) -> Batch:
    """Generate the batch of one step; ``stream`` 0 trains, 1 validates."""
    draw = Draw.at(config.seed, stream, rank, step, device=device)
    bucket = draw.pick(config.context_weights)
    context_length, rows = config.context_lengths[bucket], config.batch_sizes[bucket]
    target_length = config.target_lengths[draw.pick(config.target_weights)]
    series = draw_series(config, rows, context_length + target_length, draw)
    series = observe(series, draw)
    context = shorten(series[:, :context_length], draw)
    return Batch(context=context.contiguous(), target=series[:, context_length:].contiguous())


def draw_series(config: CorpusConfig, rows: int, length: int, draw: Draw) -> Tensor:
    """Draw clean series of every generator by weight, some of them mixed; [rows, length]."""
    names = list(config.generators)
    weights = torch.tensor([config.generators[name] for name in names], dtype=torch.float64)
    edges = torch.round(torch.cumsum(weights / weights.sum(), 0) * rows).long().tolist()
    parts = []
    for name, first, last in zip(names, [0, *edges[:-1]], edges, strict=True):
        if last > first:
            part = GENERATORS[name](last - first, length, draw)
            parts.append(part if name in IN_OWN_UNITS else _with_units(part, draw))
    series = torch.cat(parts)
    mixed = _mixup(series, draw)
    return torch.where(draw.chance(config.mixup, rows, 1) > 0, mixed, series)


def _with_units(series: Tensor, draw: Draw) -> Tensor:
    """Give series of order one a level from none to far above their spread, and a unit of any size."""
    rows = series.shape[0]
    level = draw.chance(0.7, rows, 1) * draw.log_uniform(0.3, 20, rows, 1) * draw.choice((-1.0, 1.0, 1.0, 1.0), rows, 1)
    return (series + level) * draw.log_uniform(0.1, 100, rows, 1)


def _mixup(series: Tensor, draw: Draw) -> Tensor:
    """TSMixup (Ansari et al. 2024, algorithm 1): convex mixtures of two or three mean-scaled series."""
    rows = series.shape[0]
    scaled = series / series.abs().mean(dim=1, keepdim=True).clamp(min=1e-6)
    order = draw.integers(0, rows, MAX_MIXED, rows)
    share = -torch.log(draw.uniform(1e-6, 1, MAX_MIXED, rows, 1))  # Dirichlet(1) once normalised
    share[2] *= draw.chance(0.5, rows, 1)
    mixture: Tensor = (share * scaled[order]).sum(0) / share.sum(0)
    return mixture * series.abs().mean(dim=1, keepdim=True)
