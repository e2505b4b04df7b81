"""The running forecaster compared with one other, on the same forecasts: paired sums, evidence, drift."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from device_runtime.errors import FormatError
from device_runtime.quality.evidence import Drift, Trial, Verdict, Wealth, difference, logs_of
from device_runtime.quality.scores import FloatArray, Sums, sums_of
from device_runtime.quality.units import Losses

MOMENTS = 6  # units, and sums over them of A, B, A², AB, B²


@dataclass
class Against:
    """A comparison. Sums of what runs are over the same forecasts as those of the other."""

    adapter: str | None  # the other's SHA-256, hex; None: the frozen base
    own: Sums
    other: Sums
    moments: list[float] = field(default_factory=lambda: [0.0] * MOMENTS)
    trial: Trial | None = None  # None: no limit was set
    drift: Drift = field(default_factory=Drift.none)
    drift_since: int = 0  # ms, when the flag rose; 0: it has not

    @property
    def percent(self) -> float:
        """How much higher the WQL of what runs is, in percent; NaN where nothing was scored."""
        other = self.other.wql
        return 100 * (self.own.wql / other - 1) if other > 0 else math.nan

    def score(self, own: FloatArray, other: FloatArray) -> None:
        """Add a forecast's scores."""
        self.own.values += own
        self.other.values += other

    def unit(self, losses: Losses, t_ms: int) -> None:
        """Add a unit that was closed at a time."""
        a, b = losses.own, losses.other
        self.moments = [held + new for held, new in zip(self.moments, (1, a, b, a * a, a * b, b * b), strict=True)]
        if self.trial is not None:
            self.trial.add(a, b)
        self.drift.add(difference(a, b))
        if self.drift.flagged and not self.drift_since:
            self.drift_since = t_ms

    def judge_by(self, ratio: float | None) -> None:
        """Set what is allowed; evidence on another question does not count for this one."""
        if ratio is None:
            self.trial = None
        elif self.trial is None or self.trial.ratio != ratio:
            self.trial = Trial.at(ratio)

    @property
    def verdict(self) -> Verdict:
        """What the evidence says, where the figures say it too: one without the other decides nothing."""
        if self.trial is None or math.isnan(self.percent):
            return Verdict.OPEN
        over = 1 + self.percent / 100 > self.trial.ratio
        return self.trial.verdict if over == (self.trial.verdict is Verdict.WORSE) else Verdict.OPEN

    def to_value(self) -> dict[str, Any]:
        """Encode as plain values."""
        trial = self.trial
        return {
            "adapter": self.adapter,
            "own": self.own.values.tolist(),
            "other": self.other.values.tolist(),
            "moments": self.moments,
            "trial": None if trial is None else [trial.ratio, trial.verdict.value, trial.worse.logs, trial.better.logs],
            "drift": [self.drift.units, [None if math.isinf(log) else log for log in self.drift.logs]],
            "drift_since": self.drift_since,
        }


def against_of(value: Any, levels: int) -> Against:
    """Decode a comparison. Raises `FormatError`, `KeyError`, `TypeError` or `ValueError` for what is none."""
    trial = value["trial"]
    units, logs = value["drift"]
    moments = [float(one) for one in value["moments"]]
    if len(moments) != MOMENTS or not all(math.isfinite(one) and one >= 0 for one in moments):
        raise FormatError(f"quality: want {MOMENTS} sums over units, got {moments[:10]}")
    return Against(
        adapter=value["adapter"],
        own=sums_of(value["own"], levels),
        other=sums_of(value["other"], levels),
        moments=moments,
        trial=None
        if trial is None
        else Trial(float(trial[0]), Wealth(logs_of(trial[2])), Wealth(logs_of(trial[3])), Verdict(trial[1])),
        drift=Drift(logs_of(logs), int(units)),
        drift_since=int(value["drift_since"]),
    )
