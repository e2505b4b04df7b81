"""KernelSynth (Ansari et al. 2024, "Chronos", section 4.2): Gaussian processes with randomly composed
kernels.

As in the paper, up to five kernels from a bank (linear, smooth, rough, periodic, white, constant) are joined
by random sums and products. Stationary kernels are composed as autocovariances; the linear kernel multiplies
the sample by a random line, which has exactly the covariance of the product.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edge_tsfm.research.pretraining import gaussian
from edge_tsfm.research.pretraining.draw import Draw

# Steps per cycle of common recordings: hours of a day and week, parts of a day, weekdays, months.
PERIODS = (
    4.0,
    6.0,
    7.0,
    8.0,
    12.0,
    14.0,
    24.0,
    24.0,
    28.0,
    30.0,
    48.0,
    52.0,
    60.0,
    96.0,
    144.0,
    168.0,
    288.0,
)
MAX_KERNELS = 5


def kernel_synth(rows: int, length: int, draw: Draw) -> Tensor:
    """Draw ``rows`` series with kernels of their own; [rows, length], scale of order one."""
    lag = gaussian.lags(length, draw.device)[None]  # [1, M + 1]
    total = _random_kernel(rows, lag, draw)
    used = draw.integers(1, MAX_KERNELS + 1, rows, 1)
    for position in range(1, MAX_KERNELS):
        other = _random_kernel(rows, lag, draw)
        joined = torch.where(draw.chance(0.5, rows, 1) > 0, total + other, total * other)
        total = torch.where(used > position, joined, total)
    series = gaussian.sample(total, length, draw)
    time = torch.linspace(-1, 1, length, device=draw.device)
    line = 1 + draw.chance(0.15, rows, 1) * (draw.normal(rows, 1) * 2 * time + draw.normal(rows, 1) - 1)
    trend = draw.chance(0.25, rows, 1) * draw.normal(rows, 1) * 2 * time
    return series * line + trend


def _random_kernel(rows: int, lag: Tensor, draw: Draw) -> Tensor:
    """One kernel of the bank per row, unit variance, [rows, M + 1]."""
    kind = draw.integers(0, 7, rows)
    scale = draw.log_uniform(2.0, 300.0, rows, 1)
    shape = draw.log_uniform(0.3, 2.0, rows, 1)
    period = draw.choice(PERIODS, rows, 1)
    out = torch.ones(rows, lag.shape[1], device=lag.device)  # kind 6: constant
    bank: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda r: gaussian.rbf(lag, scale[r]),
        lambda r: gaussian.ou(lag, scale[r]),
        lambda r: gaussian.rational_quadratic(lag, scale[r], shape[r]),
        lambda r: gaussian.periodic(lag, period[r], shape[r]),
        lambda r: gaussian.periodic(lag, period[r], shape[r]),
        lambda r: gaussian.white(lag).expand(int(r.sum()), -1),
    )
    for index, kernel in enumerate(bank):
        chosen = kind == index
        out[chosen] = kernel(chosen)
    return out
