"""Adam (Kingma and Ba 2015) on a shift, the moving average of its iterates, and bounds that hold after every step."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.packed import pack, unpack
from device_runtime.adapt.rules import AdaptRules
from device_runtime.errors import FormatError

FloatArray = NDArray[np.float32]

KEEP_FIRST, KEEP_SECOND, TINY = np.float32(0.9), np.float32(0.999), np.float32(1e-8)
VANISHED = 800_000  # steps after which both powers are 0
ARRAYS = ("iterate", "mean", "first", "second", "morning")


class Optimiser:
    """A shift ``[n]`` that moves. All numbers are float32, in operations of numpy in a fixed order.

    ``mean`` is the candidate: the moving average of the iterates, which lies within the same bounds.
    """

    def __init__(self, rules: AdaptRules, sizes: Sequence[int]) -> None:
        self.rules, self.sizes = rules, tuple(sizes)
        count = sum(sizes)
        self.iterate: FloatArray = np.zeros(count, dtype=np.float32)
        self.mean: FloatArray = np.zeros(count, dtype=np.float32)
        self.first: FloatArray = np.zeros(count, dtype=np.float32)
        self.second: FloatArray = np.zeros(count, dtype=np.float32)
        self.morning: FloatArray = np.zeros(count, dtype=np.float32)
        self.steps = 0
        self.capped = 0  # steps that a cap held back
        self.day: int | None = None  # of `morning`, the iterate as that day began
        self._powers = [1.0, 1.0]  # 0.9 and 0.999 to the power of the steps

    def step(self, gradient: FloatArray, day: int) -> float | None:
        """Take a step against a gradient ``[n]`` on a day; return the gradient's norm before it is clipped.

        Returns None and leaves everything as it is where the gradient is not finite.
        """
        rules = self.rules
        g: FloatArray = gradient.astype(np.float32) + np.float32(2 * rules.anchor) * self.iterate
        norm = float(np.sqrt(np.sum(g.astype(np.float64) ** 2)))
        if not np.isfinite(norm):
            return None
        if self.day != day:
            self.day, self.morning = day, self.iterate.copy()
        if norm > rules.clip_norm:
            g *= np.float32(rules.clip_norm / norm)
        self.steps += 1
        self._powers = [self._powers[0] * float(KEEP_FIRST), self._powers[1] * float(KEEP_SECOND)]
        self.first = KEEP_FIRST * self.first + (1 - KEEP_FIRST) * g
        self.second = KEEP_SECOND * self.second + (1 - KEEP_SECOND) * g * g
        unbiased = self.first / np.float32(1 - self._powers[0])
        scale = np.sqrt(self.second / np.float32(1 - self._powers[1])) + TINY
        self.iterate = self._bounded(self.iterate - np.float32(rules.rate) * unbiased / scale)
        pace = np.float32(max(1 - rules.average, 1 / (self.steps + 1)))  # the first iterates count alike
        self.mean = self.mean + pace * (self.iterate - self.mean)
        return norm

    def _bounded(self, moved: FloatArray) -> FloatArray:
        """Limit an iterate to the allowed change of a day, then each tensor to its cap."""
        day, held = self._within(moved - self.morning, self.rules.cap_day)
        out = self.morning + day if held else moved
        at = 0
        for size in self.sizes:
            out[at : at + size], over = self._within(out[at : at + size], self.rules.cap_tensor)
            held, at = held or over, at + size
        self.capped += held
        return out

    @staticmethod
    def _within(x: FloatArray, cap: float) -> tuple[FloatArray, bool]:
        """Scale numbers so that their root mean square is at most ``cap``; say whether it was beyond."""
        rms = float(np.sqrt(np.mean(x.astype(np.float64) ** 2))) if len(x) else 0.0
        return (x * np.float32(cap / rms), True) if rms > cap else (x, False)

    @property
    def size(self) -> int:
        """Bytes that its numbers take."""
        return sum(int(getattr(self, name).nbytes) for name in ARRAYS)

    @property
    def digest(self) -> str:
        """A digest of 16 characters, equal if two learners have the same bits."""
        return sha256(b"".join(getattr(self, name).tobytes() for name in ARRAYS)).hexdigest()[:16]

    def to_value(self) -> dict[str, Any]:
        """Encode as plain values."""
        return {
            "steps": self.steps,
            "capped": self.capped,
            "day": self.day,
            **{name: pack(getattr(self, name)) for name in ARRAYS},
        }

    def restore(self, value: Any) -> None:
        """Restore what `to_value` wrote.

        Raises `FormatError`, `KeyError` or `TypeError` for anything else; then nothing is changed.
        """
        steps, capped, day = value["steps"], value["capped"], value["day"]
        if any(type(one) is not int or one < 0 for one in (steps, capped)) or not (day is None or type(day) is int):
            raise FormatError(f"optimiser: steps {steps!r}, capped {capped!r}, day {day!r}: want whole numbers")
        arrays = {name: unpack(value[name], self.iterate.shape, name) for name in ARRAYS}
        if (arrays["second"] < 0).any():
            raise FormatError("optimiser: a second moment is negative")
        for name, array in arrays.items():
            setattr(self, name, array)
        self.steps, self.capped, self.day = steps, capped, day
        powers = [1.0, 1.0]
        for _ in range(min(steps, VANISHED)):  # as they came to be: the same bits
            powers = [powers[0] * float(KEEP_FIRST), powers[1] * float(KEEP_SECOND)]
        self._powers = powers
