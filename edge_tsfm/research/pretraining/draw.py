"""Seeded random numbers for generators: every draw is a function of a few integers, on any device.

A batch is drawn from ``Draw.at(seed, stream, step)``, so a resumed run, a run with more workers and a run
that was never interrupted see the same series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """A random generator and the device it draws on."""

    generator: torch.Generator
    device: torch.device

    @classmethod
    def at(cls, *keys: int, device: torch.device | str = "cpu") -> Draw:
        """Start a generator at a place named by integers (for instance seed, stream, step)."""
        state = 0x9E3779B97F4A7C15
        for key in keys:  # splitmix64 over the keys: neighbouring steps get unrelated states
            state = (state ^ (key & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
            state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
            state ^= state >> 31
        place = torch.device(device)
        return cls(torch.Generator(place).manual_seed(state & 0x7FFFFFFFFFFFFFFF), place)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform on [low, high)."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in the logarithm: every scale between ``low`` and ``high`` equally often."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        """Independent standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def heavy(self, tail: Tensor, *shape: int) -> Tensor:
        """Normal numbers of random scale exp(tail·z): unit variance, kurtosis 3·exp(4·tail²)."""
        return self.normal(*shape) * torch.exp(tail * self.normal(*shape) - tail.square())

    def chance(self, probability: float | Tensor, *shape: int) -> Tensor:
        """Coin flips, as float32 zeros and ones."""
        return (torch.rand(shape, generator=self.generator, device=self.device) < probability).float()

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers in [low, high)."""
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def choice(self, values: tuple[float, ...], *shape: int) -> Tensor:
        """One of ``values``, each equally likely."""
        return torch.tensor(values, device=self.device)[self.integers(0, len(values), *shape)]

    def pick(self, weights: tuple[float, ...]) -> int:
        """One index, with probability proportional to its weight."""
        place = torch.tensor(weights, dtype=torch.float32, device=self.device)
        return int(torch.multinomial(place, 1, generator=self.generator).item())
