"""Series that behave like vital signs charted hourly or every minute: noisy, mean reverting, with long
memory.

Ranges follow textbook physiology and charting habits (what a nurse's chart or a monitor's numerics look
like): a patient level, several Ornstein–Uhlenbeck time scales from an hour to weeks (together close to 1/f),
white charting noise of comparable size, day rhythm, transients after admission, level shifts after an
intervention, episodes, heavy tails, a ceiling where the quantity has one, and the monitor's rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_tsfm.research.pretraining import gaussian
from edge_tsfm.research.pretraining.draw import Draw


@dataclass(frozen=True, kw_only=True)
class VitalSign:
    """One vital sign: level and spread in its own unit, rounding step, ceiling."""

    level: float
    level_sd: float
    spread: float  # median standard deviation within a stay
    step: float
    ceiling: float = math.inf
    skew: float = 0.3


VITAL_SIGNS = (
    VitalSign(level=85, level_sd=16, spread=9, step=1),  # heart rate, beats/min
    VitalSign(level=80, level_sd=12, spread=9.5, step=1),  # mean arterial pressure, mmHg
    VitalSign(level=122, level_sd=20, spread=15, step=1),  # systolic pressure, mmHg
    VitalSign(level=19, level_sd=4.5, spread=3.5, step=1),  # respiration, breaths/min
    VitalSign(level=97.5, level_sd=1.6, spread=1.8, step=1, ceiling=100, skew=-0.6),  # oxygen saturation, %
    VitalSign(level=37, level_sd=0.6, spread=0.4, step=0.1),  # temperature, degrees Celsius
    VitalSign(level=35, level_sd=5, spread=3, step=1),  # end-tidal carbon dioxide, mmHg
)


def vital_signs(rows: int, length: int, draw: Draw) -> Tensor:
    """Draw ``rows`` series in their own units, [rows, length]; one row in five is a quantity nobody has
    named.
    """
    kind = draw.integers(0, len(VITAL_SIGNS), rows)
    level, level_sd, spread, step, ceiling, skew = (
        torch.tensor([getattr(c, name) for c in VITAL_SIGNS], device=draw.device)[kind][:, None]
        for name in ("level", "level_sd", "spread", "step", "ceiling", "skew")
    )
    spread = spread * torch.exp(0.45 * draw.normal(rows, 1))
    centre = level + level_sd * draw.normal(rows, 1)
    unnamed = draw.chance(0.2, rows, 1) > 0
    centre = torch.where(
        unnamed, spread * draw.log_uniform(0.3, 60, rows, 1) * draw.choice((-1.0, 1.0, 1.0), rows, 1), centre
    )
    ceiling = torch.where(unnamed, math.inf, ceiling)
    step = torch.where(unnamed, spread * draw.log_uniform(1e-3, 1.0, rows, 1), step)
    step = torch.where(draw.chance(0.2, rows, 1) > 0, step * draw.choice((0.1, 0.5, 2.0, 5.0), rows, 1), step)

    z = _unit_vital(rows, length, draw)
    skew = skew * draw.uniform(-0.3, 1.3, rows, 1)
    z = z + 0.5 * skew * (z.clamp(-3, 3).square() - 1)  # upper (or lower, for saturation) tail longer
    series = torch.minimum(centre + spread * z, ceiling)
    return torch.where(draw.chance(0.9, rows, 1) > 0, torch.round(series / step) * step, series)


def _unit_vital(rows: int, length: int, draw: Draw) -> Tensor:
    """The same before units: variance of order one, [rows, length]."""
    lag = gaussian.lags(length, draw.device)[None]
    slow_down = torch.where(draw.chance(0.3, rows, 1) > 0, draw.log_uniform(3, 30, rows, 1), 1.0)  # minute data
    parts = torch.softmax(1.2 * draw.normal(rows, 5), dim=1)  # [rows, 5] variance shares
    memory = (
        parts[:, 0:1] * gaussian.ou(lag, slow_down * draw.log_uniform(0.7, 5, rows, 1))
        + parts[:, 1:2] * gaussian.ou(lag, slow_down * draw.log_uniform(5, 30, rows, 1))
        + parts[:, 2:3] * gaussian.ou(lag, slow_down * draw.log_uniform(30, 400, rows, 1))
        + parts[:, 3:4] * gaussian.rbf(lag, slow_down * draw.log_uniform(3, 60, rows, 1))
        + parts[:, 4:5] * gaussian.ou(lag, slow_down * draw.log_uniform(3, 60, rows, 1))
    )
    noise_share = torch.where(
        slow_down > 1, draw.uniform(0.0, 0.5, rows, 1), draw.uniform(0.02, 0.75, rows, 1)
    )  # of the variance
    z = (1 - noise_share).sqrt() * gaussian.sample(memory, length, draw)

    tail = draw.chance(0.7, rows, 1) * draw.uniform(0, 0.7, rows, 1)
    calm = gaussian.rbf(lag, draw.log_uniform(5, 100, rows, 1))
    loudness = torch.exp(draw.chance(0.3, rows, 1) * 0.5 * gaussian.sample(calm, length, draw))
    z = z + noise_share.sqrt() * loudness * draw.heavy(tail, rows, length)

    time = torch.arange(length, device=draw.device, dtype=torch.float32)[None]
    day = draw.choice((24.0, 24.0, 24.0, 48.0, 96.0, 288.0), rows, 1)
    z = z + draw.chance(0.4, rows, 1) * draw.uniform(0, 0.6, rows, 1) * torch.sin(
        2 * torch.pi * (time / day + draw.uniform(0, 1, rows, 1))
    )
    z = z + draw.chance(0.3, rows, 1) * 1.5 * draw.normal(rows, 1) * torch.exp(-time / draw.log_uniform(3, 60, rows, 1))
    z = z + draw.chance(0.2, rows, 1) * draw.normal(rows, 1) * (time / length - 0.5) * 2
    return z + shifts(rows, length, draw, slow_down) + episodes(rows, length, draw, slow_down)


def shifts(rows: int, length: int, draw: Draw, slow_down: Tensor) -> Tensor:
    """Steps up or down that stay, about one in 80 steps for the rows that have any, [rows, length]."""
    rate = draw.chance(0.4, rows, 1) * draw.log_uniform(1 / 300, 1 / 25, rows, 1) / slow_down
    jumps = draw.chance(rate, rows, length) * draw.normal(rows, length) * 1.2
    return jumps.cumsum(1)


def episodes(rows: int, length: int, draw: Draw, slow_down: Tensor) -> Tensor:
    """Excursions that come and fade (pain, fever, a bolus): shots filtered by two exponentials, [rows,
    length].
    """
    rate = draw.chance(0.35, rows, 1) * draw.log_uniform(1 / 150, 1 / 20, rows, 1) / slow_down
    shots = draw.chance(rate, rows, length) * draw.normal(rows, length).abs() * 2.5
    sign = draw.choice((-1.0, 1.0), rows, 1)
    lag = torch.arange(length, device=draw.device, dtype=torch.float32)[None]
    fade = slow_down * draw.log_uniform(1.5, 12, rows, 1)
    response = torch.exp(-lag / fade) * (1 - torch.exp(-(lag + 1) / (0.4 * fade)))
    n = 2 * length
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(shots, n=n) * torch.fft.rfft(response, n=n), n=n)[:, :length]
    return sign * filtered * 1.5
