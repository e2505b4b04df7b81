"""Series from outside the ward, so that a base knows more than patients: seasons, walks, counts, machines."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_tsfm.research.pretraining import gaussian
from edge_tsfm.research.pretraining.draw import Draw
from edge_tsfm.research.pretraining.kernelsynth import PERIODS


def seasonal(rows: int, length: int, draw: Draw) -> Tensor:
    """A repeating profile of any shape, or two nested ones, with drifting size, trend and additive or
    multiplicative noise.
    """
    time = torch.arange(length, device=draw.device, dtype=torch.float32)[None]
    lag = gaussian.lags(length, draw.device)[None]
    period = draw.choice(PERIODS, rows, 1) * torch.where(
        draw.chance(0.3, rows, 1) > 0, torch.exp(0.3 * draw.normal(rows, 1)), 1.0
    )
    profile = _profile(time, period, draw)
    second = (
        draw.chance(0.35, rows, 1)
        * draw.uniform(0.2, 1, rows, 1)
        * _profile(time, draw.choice((5.0, 7.0), rows, 1) * period, draw)
    )
    drift = gaussian.sample(gaussian.rbf(lag, draw.log_uniform(40, 600, rows, 1)), length, draw)
    size = torch.exp(0.3 * draw.chance(0.5, rows, 1) * drift)
    rough = gaussian.sample(gaussian.ou(lag, draw.log_uniform(1, 100, rows, 1)), length, draw)
    base = (profile + second) * size + draw.chance(0.5, rows, 1) * draw.normal(rows, 1) * 2 * time / length
    noise = draw.log_uniform(0.02, 0.8, rows, 1) * rough + draw.log_uniform(0.01, 0.4, rows, 1) * draw.normal(
        rows, length
    )
    additive = base + noise + draw.chance(0.5, rows, 1) * draw.uniform(0, 1.5, rows, 1) * drift
    multiplicative = torch.exp(0.6 * base.clamp(-4, 4)) * torch.exp(0.4 * noise)
    return torch.where(draw.chance(0.3, rows, 1) > 0, multiplicative, additive)


def _profile(time: Tensor, period: Tensor, draw: Draw) -> Tensor:
    """Unit-size periodic shape with decaying harmonics; some are peaky, as traffic and load are. [rows,
    length].
    """
    rows = period.shape[0]
    decay = draw.uniform(0.6, 2.5, rows, 1)
    out = torch.zeros(rows, time.shape[1], device=draw.device)
    for harmonic in range(1, 6):
        heard = (period / harmonic >= 2).float()  # nothing above the Nyquist frequency
        phase = harmonic * time / period + draw.uniform(0, 1, rows, 1)
        out = out + heard * draw.normal(rows, 1) * harmonic**-decay * torch.sin(2 * torch.pi * phase)
    peaky = draw.chance(0.25, rows, 1) * draw.uniform(0.5, 1.2, rows, 1)
    out = out / out.std(dim=1, keepdim=True).clamp(min=1e-3)
    return torch.where(peaky > 0, torch.exp(peaky * out.clamp(-4, 4)), out)


def walks(rows: int, length: int, draw: Draw) -> Tensor:
    """Random walks with short memory in their increments, some with momentum, some geometric, seen through
    noise.
    """
    lag = gaussian.lags(length, draw.device)[None]
    steps = gaussian.sample(gaussian.ou(lag, draw.log_uniform(0.3, 20, rows, 1)), length, draw)
    steps = steps * torch.exp(
        draw.chance(0.3, rows, 1)
        * 0.8
        * gaussian.sample(gaussian.ou(lag, 20 * torch.ones(rows, 1, device=draw.device)), length, draw)
    )
    path = (steps + draw.chance(0.3, rows, 1) * 0.2 * draw.normal(rows, 1)).cumsum(1)
    path = path / path.std(dim=1, keepdim=True).clamp(min=1e-3)
    path = torch.where(draw.chance(0.25, rows, 1) > 0, torch.exp(0.5 * path.clamp(-6, 6)), path)
    return path + draw.chance(0.5, rows, 1) * draw.log_uniform(0.01, 0.5, rows, 1) * draw.normal(rows, length)


def counts(rows: int, length: int, draw: Draw) -> Tensor:
    """Counts with a drifting, sometimes seasonal rate; zeros are common where the rate is low."""
    lag = gaussian.lags(length, draw.device)[None]
    time = torch.arange(length, device=draw.device, dtype=torch.float32)[None]
    drift = gaussian.sample(gaussian.ou(lag, draw.log_uniform(3, 300, rows, 1)), length, draw)
    season = draw.chance(0.5, rows, 1) * _profile(time, draw.choice(PERIODS, rows, 1), draw)
    rate = draw.log_uniform(0.3, 300, rows, 1) * torch.exp(
        draw.uniform(0, 0.8, rows, 1) * (drift + season).clamp(-3, 3)
    )
    return torch.poisson(rate, generator=draw.generator)


def machines(rows: int, length: int, draw: Draw) -> Tensor:
    """A machine's load: a floor, bursts, steps between set points, regular peaks, saturation."""
    flat = torch.ones(rows, 1, device=draw.device)
    lag = gaussian.lags(length, draw.device)[None]
    floor = draw.log_uniform(0.02, 0.5, rows, 1) * gaussian.sample(
        gaussian.ou(lag, draw.log_uniform(1, 50, rows, 1)), length, draw
    )
    rate = draw.log_uniform(1 / 200, 1 / 8, rows, 1)
    bursts = (
        draw.chance(rate, rows, length) * draw.heavy(0.8 * flat, rows, length).abs() * draw.uniform(0.5, 4, rows, 1)
    )
    change = draw.chance(draw.chance(0.5, rows, 1) * draw.log_uniform(1 / 200, 1 / 20, rows, 1), rows, length)
    step = torch.arange(length, device=draw.device).expand(rows, length)
    since = torch.where(change > 0, step, 0).cummax(1).values
    set_point = draw.normal(rows, length).gather(1, since)
    gap = draw.choice((6.0, 12.0, 24.0, 48.0, 60.0, 96.0, 288.0), rows, 1)
    beat = ((step + draw.uniform(0, 1, rows, 1) * gap) % gap < draw.uniform(1, 4, rows, 1)).float()
    series = floor + bursts + set_point + draw.chance(0.4, rows, 1) * draw.uniform(0.5, 4, rows, 1) * beat
    top = torch.where(draw.chance(0.2, rows, 1) > 0, draw.uniform(0.5, 3, rows, 1), torch.inf)
    return torch.minimum(series, top)
