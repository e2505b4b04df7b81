"""The health window of a trial: pure, fed by the host after every forecast it makes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from device_runtime.errors import SettingsError
from device_runtime.quality import evidence
from device_runtime.quality.field import Judgement


class Health(StrEnum):
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
    max_wql_vs_base_percent: float | None = None  # allowed excess of its WQL over the frozen base's; None: not judged
    min_scored: int = 200  # least steps forecast by both before its WQL is judged

    def __post_init__(self) -> None:
        """Refuse a window that proves nothing."""
        if self.seconds < 0 or self.min_forecasts < 1 or self.max_failures < 0 or self.latency_budget <= 0:
            raise SettingsError(f"want at least one forecast and a positive latency budget, got {self}")
        if self.max_wql_vs_base_percent is not None and not -90 <= self.max_wql_vs_base_percent <= 1000:
            raise SettingsError(f"max_wql_vs_base_percent {self.max_wql_vs_base_percent:g}: want -90 to 1000")
        if self.min_scored < 1:
            raise SettingsError(f"min_scored {self.min_scored}: want at least 1")

    @property
    def ratio(self) -> float | None:
        """The WQL, over the base's, that is still allowed."""
        percent = self.max_wql_vs_base_percent
        return None if percent is None else 1 + percent / 100


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

    def passed(self, field: Judgement) -> str:
        """Say that the window passed, with the field's figures where they count."""
        figures = f": {field.why}" if self.rules.max_wql_vs_base_percent is not None else ""
        return f"health window passed, {self.forecasts} forecasts{figures}"

    def health(self, at: float, field: Judgement) -> Health:
        """Judge the window at the monotonic time ``at``, and by the field's judgement where a limit is set.

        With a limit, a trial ends when it is shown to be worse, and passes only when it is shown not to be.
        """
        if self.failures > self.rules.max_failures:
            return Health.FAILED
        judged = self.rules.max_wql_vs_base_percent is not None
        if judged and field.verdict is evidence.Verdict.WORSE:
            self.reason = f"{field.why}, at most {self.rules.max_wql_vs_base_percent:+g} %"
            return Health.FAILED
        waits = judged and field.verdict is not evidence.Verdict.BETTER
        if not waits and at - self.began >= self.rules.seconds and self.forecasts >= self.rules.min_forecasts:
            return Health.PASSED
        return Health.WAIT
