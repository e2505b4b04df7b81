"""Gaussian processes by the thousand: sample from autocovariances with one FFT instead of one Cholesky each.

Circulant embedding (Dietrich and Newsam 1997): the autocovariance at lags 0..M, mirrored, is the first row of
a circulant matrix whose eigenvalues are its Fourier transform. Negative eigenvalues (a kernel that has not
decayed by lag M) are set to zero, which is exact for the kernels below up to that truncation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_tsfm.research.pretraining.draw import Draw


def lags(length: int, device: torch.device) -> Tensor:
    """Lags 0..M at which a kernel is needed to sample ``length`` steps; M has only small prime factors."""
    half = 64
    while half < length:
        half += 64
    return torch.arange(half + 1, device=device, dtype=torch.float32)  # [M + 1]


def sample(autocovariance: Tensor, length: int, draw: Draw) -> Tensor:
    """Draw one stationary series per row.

    Args:
        autocovariance: at ``lags(length)``, [B, M + 1].
        length: steps wanted, at most M.
        draw: random numbers.

    Returns:
        [B, length] with that autocovariance.
    """
    rows, half = autocovariance.shape[0], autocovariance.shape[1] - 1
    n = 2 * half
    power = torch.fft.hfft(autocovariance, n=n)[:, : half + 1].clamp(min=0.0)  # [B, M + 1]
    noise = torch.complex(draw.normal(rows, half + 1), draw.normal(rows, half + 1)) * 0.5**0.5
    noise[:, [0, half]] = noise[:, [0, half]].real.to(noise.dtype) * 2**0.5
    series: Tensor = torch.fft.irfft((power * n).sqrt() * noise, n=n)[:, :length]
    return series


def ou(lag: Tensor, tau: Tensor) -> Tensor:
    """Ornstein–Uhlenbeck (AR(1)) memory that halves every 0.69·tau steps; ``tau`` [B, 1]."""
    return torch.exp(-lag / tau)


def rbf(lag: Tensor, scale: Tensor) -> Tensor:
    """Smooth drift with length scale ``scale`` [B, 1] steps."""
    return torch.exp(-0.5 * (lag / scale).square())


def rational_quadratic(lag: Tensor, scale: Tensor, alpha: Tensor) -> Tensor:
    """Drift on many time scales at once."""
    return (1 + (lag / scale).square() / (2 * alpha)).pow(-alpha)


def periodic(lag: Tensor, period: Tensor, roughness: Tensor) -> Tensor:
    """Exactly repeating pattern (exp-sine-squared)."""
    return torch.exp(-2 * (torch.sin(torch.pi * lag / period) / roughness).square())


def white(lag: Tensor) -> Tensor:
    """Independent noise."""
    return (lag == 0).float()
