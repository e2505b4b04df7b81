"""The health window of a trial: pure, fed by the host after every forecast it makes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from device_runtime.errors import SettingsError


class Verdict(StrEnum):
    """What the window says so far."""

    WAIT = "wait"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class HealthRules:
    """What a trial must show. Times are in seconds of a monotonic clock: the wall clock may be years off."""

    seconds: float = 600.0
    min_forecasts: int = 10
    max_failures: int = 0
    latency_budget: float = 1.0  # seconds for one forecast; a slower one is a failure

    def __post_init__(self) -> None:
        """Refuse a window that proves nothing."""
        if self.seconds < 0 or self.min_forecasts < 1 or self.max_failures < 0 or self.latency_budget <= 0:
            raise SettingsError(f"want at least one forecast and a positive latency budget, got {self}")


class HealthWindow:
    """Collects what a trial shows from its first start on."""

    def __init__(self, rules: HealthRules, *, at: float) -> None:
        self.rules, self.began = rules, at
        self.forecasts = self.failures = 0
        self.reason = ""

    def observe(self, *, ok: bool, latency: float, reason: str = "") -> None:
        """Count one forecast: whether there was a finite one, and how long it took in seconds."""
        self.forecasts += 1
        if not ok or latency > self.rules.latency_budget:
            self.failures += 1
            self.reason = reason or (f"{latency:.3f} s for a forecast" if ok else "no forecast")

    def verdict(self, at: float) -> Verdict:
        """Judge the window at the monotonic time ``at``."""
        if self.failures > self.rules.max_failures:
            return Verdict.FAILED
        if at - self.began >= self.rules.seconds and self.forecasts >= self.rules.min_forecasts:
            return Verdict.PASSED
        return Verdict.WAIT
