"""Evidence on which of two forecasters is better, valid at any time: e-processes by betting.

A *unit* (`device_runtime.quality.units`) gives the summed losses A of the running forecaster and B of the other.
``x = clip((A - r B) / (A + r B), -c, c) / c`` lies in [-1, 1] whatever the losses are; ``r`` is the allowed ratio of
losses. While the running forecaster is within it, x has a mean of at most 0 given the past, so ``prod(1 + b x)`` is a
nonnegative supermartingale for each b in (0, 1), and so is the mean over several b. By Ville's inequality the
probability that it ever reaches 1 / alpha is at most alpha, however often it is checked.
docs/reference/field-quality.md has the derivation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from device_runtime.errors import FormatError

CLIP = 0.1  # relative difference of a unit beyond which more says no more: some 2.5 standard deviations of real blocks
BETS = (0.05, 0.15, 0.35, 0.6, 0.9)
FALSE_STOP = 0.001  # probability that a trial of an adapter that is allowed ever ends by its losses
FALSE_PASS = 0.01  # probability that a trial of an adapter that is not allowed ever passes
FALSE_FLAG_UNITS = 10_000  # units between two false drift flags, on average, at least


class Verdict(StrEnum):
    """What the evidence says so far."""

    OPEN = "open"
    BETTER = "better"  # than what is allowed, or as good
    WORSE = "worse"


def difference(own: float, other: float, ratio: float = 1.0, *, clip: float = CLIP) -> float:
    """Return a unit's bounded paired difference, in [-1, 1]; positive: what runs lost more than ``ratio`` allows."""
    total = own + ratio * other
    if total <= 0:
        return 0.0
    return min(max((own - ratio * other) / total, -clip), clip) / clip


@dataclass
class Wealth:
    """An e-process against "the mean of x is at most 0": what bets on x would have made of 1."""

    logs: list[float]  # logarithm of each bet's wealth

    @classmethod
    def one(cls) -> Wealth:
        """Begin."""
        return cls([0.0] * len(BETS))

    def add(self, x: float) -> None:
        """Bet on one unit's difference."""
        self.logs = [held + math.log1p(bet * x) for held, bet in zip(self.logs, BETS, strict=True)]

    @property
    def log(self) -> float:
        """Logarithm of the mean wealth."""
        return log_mean(self.logs)


@dataclass
class Drift:
    """An e-detector (Shiryaev-Roberts) for "from some unit on, the mean of x is above 0".

    Its mean under "the mean is at most 0" is the number of units seen, so it takes `FALSE_FLAG_UNITS` on average until
    it is that high without cause.
    """

    logs: list[float]
    units: int = 0

    @classmethod
    def none(cls) -> Drift:
        """Begin: nothing is held."""
        return cls([-math.inf] * len(BETS))

    def add(self, x: float) -> None:
        """Take one unit's difference."""
        self.units += 1
        self.logs = [
            max(held, 0.0) + math.log1p(math.exp(-abs(held))) + math.log1p(bet * x)
            for held, bet in zip(self.logs, BETS, strict=True)
        ]

    @property
    def log(self) -> float:
        """Logarithm of the mean over the bets."""
        return log_mean(self.logs)

    @property
    def flagged(self) -> bool:
        """Whether it is as high as by chance once in `FALSE_FLAG_UNITS`."""
        return self.log >= math.log(FALSE_FLAG_UNITS)


@dataclass
class Trial:
    """Both sides of a trial's question: is what runs worse than ``ratio`` allows, or is it not."""

    ratio: float
    worse: Wealth
    better: Wealth
    verdict: Verdict = Verdict.OPEN

    @classmethod
    def at(cls, ratio: float) -> Trial:
        """Begin."""
        return cls(ratio, Wealth.one(), Wealth.one())

    def add(self, own: float, other: float) -> None:
        """Take one unit's losses."""
        x = difference(own, other, self.ratio)
        self.worse.add(x)
        self.better.add(-x)
        if self.verdict is Verdict.OPEN and self.worse.log >= -math.log(FALSE_STOP):
            self.verdict = Verdict.WORSE
        elif self.verdict is Verdict.OPEN and self.better.log >= -math.log(FALSE_PASS):
            self.verdict = Verdict.BETTER


def log_mean(logs: Sequence[float]) -> float:
    """Return the logarithm of the mean of exponentials."""
    most = max(logs)
    return most if math.isinf(most) else most + math.log(sum(math.exp(log - most) for log in logs) / len(logs))


def logs_of(value: Sequence[float | None]) -> list[float]:
    """Decode logarithms; None is that of nothing. Raises `FormatError`."""
    logs = [-math.inf if log is None else float(log) for log in value]
    if len(logs) != len(BETS) or any(math.isnan(log) or log == math.inf for log in logs):
        raise FormatError(f"quality: want {len(BETS)} logarithms, got {list(value)[:10]}")
    return logs
