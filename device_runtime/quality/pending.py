"""Forecasts of one series that wait for their targets, in bounded memory.

Steps are those of `device_runtime.forecast.stream`: ``floor(t / interval)``; for the newest step the sample with the
latest timestamp is used, a late sample fills an earlier step that is still missing, any other is dropped. A forecast
made when ``newest`` was the newest step covers the steps after it. It is scored when the newest step is ``late_steps``
past the one after its last target: then every target has arrived or is missing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.errors import InputError

BUDGET = 262_144  # bytes of quantiles of one forecaster that wait, for each series
LEAST_REACH = 64  # steps behind the newest within which a sample is a late one, not a clock that was set back
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Made:
    """Quantiles that one forecaster made."""

    adapter: str | None  # SHA-256 of its blob, hex; None: the frozen base
    quantiles: NDArray[np.float32]  # [H, Q]


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """One forecast, and what others forecast from the same context."""

    origin: int  # the newest step when it was made: it is of the steps behind it
    levels: tuple[float, ...]
    scale: float  # `in_context_scale` of its context
    made: Made
    shadows: Mapping[str, Made]  # "base", "previous"

    @property
    def end(self) -> int:
        """Its last step."""
        return self.origin + len(self.made.quantiles)


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """A forecast and its targets."""

    forecast: Waiting
    target: NDArray[np.float32]  # [H], NaN for missing


class Series:
    """One signal's feed, of one bed: what was forecast and what came.

    Memory: at most `BUDGET` bytes of quantiles for each forecaster (three at most, the base and the previous adapter
    on one forecast in ``shadow_every`` only) and a number for each step that is waited for. It does not grow with time:
    for a day at one sample a second with 6 steps ahead at 9 levels it is 9 forecasts of 216 bytes beside their 8
    targets; with 64 steps ahead, 67 of 2,304 bytes: 154 KB, and 39 KB more for the base.
    """

    def __init__(self, interval_ms: int, *, late_steps: int) -> None:
        if interval_ms < 1:
            raise InputError(f"interval of {interval_ms} ms: want at least 1")
        self.interval_ms, self.late_steps = interval_ms, late_steps
        self.newest: int | None = None
        self.made = 0  # forecasts that were offered, of which one in `_every` is kept
        self._reach = LEAST_REACH  # steps behind the newest within which a sample is late
        self._stamp = 0  # ms, of the sample that stands for the newest step
        self._waiting: deque[Waiting] = deque()
        self._targets: dict[int, float] = {}  # step -> value, of steps that a waiting forecast is of

    def observe(self, t_ms: int, value: float) -> Iterator[Arrived]:
        """Take one sample; yield the forecasts whose targets are in, oldest first.

        A value that is not finite in float32 changes nothing. A sample as far ahead as forecasts reach closes them:
        what did not come is missing. One as far behind says that the clock was set back: what waits is given up.
        """
        if not abs(value) <= FLOAT32_MAX:  # nor is NaN
            return
        step = t_ms // self.interval_ms
        if self.newest is not None and step < self.newest - self._reach:
            self.restart()
        if self.newest is None or step > self.newest:
            self.newest, self._stamp = step, t_ms
            self._keep(step, value)
            yield from self._arrived(step - 1 - self.late_steps)
        elif step == self.newest:
            if t_ms > self._stamp:
                self._stamp = t_ms
                self._keep(step, value)
        elif step not in self._targets:
            self._keep(step, value)

    def end(self) -> Iterator[Arrived]:
        """The stay is over: yield what waits, its other targets missing, and begin anew with the next sample."""
        yield from self._arrived(math.inf)
        self.restart()

    def restart(self) -> None:
        """Give up what waits, and begin anew."""
        self._waiting.clear()
        self._targets.clear()
        self.newest = None

    def takes(self, steps: int, levels: int) -> bool:
        """Count a forecast of ``steps`` at ``levels`` and say whether it is remembered: all, where memory holds them.

        Otherwise one in so many as it does hold.
        """
        every = -(-(steps + self.late_steps + 1) // max(1, BUDGET // (4 * steps * levels)))
        self.made += 1
        return self.newest is not None and (self.made - 1) % every == 0

    def remember(self, forecast: Waiting) -> None:
        """Wait for a forecast's targets. A second one of the same origin replaces the first: it saw more."""
        if self._waiting and self._waiting[-1].origin == forecast.origin:
            self._waiting.pop()
        self._waiting.append(forecast)
        self._reach = max(self._reach, len(forecast.made.quantiles) + self.late_steps)

    @property
    def waiting(self) -> int:
        """How many forecasts wait."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """Bytes of what waits: quantiles and targets."""
        made = [one for waits in self._waiting for one in (waits.made, *waits.shadows.values())]
        return sum(one.quantiles.nbytes for one in made) + 16 * len(self._targets)

    def _keep(self, step: int, value: float) -> None:
        """Keep a value that a waiting forecast is of."""
        if self._waiting and self._waiting[0].origin < step:
            self._targets[step] = value

    def _arrived(self, upto: float) -> Iterator[Arrived]:
        """Take the forecasts that end at or before a step, and drop targets that no forecast waits for."""
        # All have the same length, or nearly always: the oldest ends first.
        while self._waiting and self._waiting[0].end <= upto:
            forecast = self._waiting.popleft()
            steps = range(forecast.origin + 1, forecast.end + 1)
            target = np.array([self._targets.get(step, math.nan) for step in steps], dtype=np.float32)
            yield Arrived(forecast=forecast, target=target)
        least = self._waiting[0].origin if self._waiting else math.inf
        for step in [step for step in self._targets if step <= least]:
            del self._targets[step]
