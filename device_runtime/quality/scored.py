"""The scores of one forecaster on one signal: in total, recently, day by day, and compared with others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from device_runtime.errors import FormatError
from device_runtime.quality.against import Against, against_of
from device_runtime.quality.scores import STEPS, FloatArray, Sums, sums_of

DAY_MS = 86_400_000
DAYS = 14  # whose totals are kept
MAX_LEVELS = 64


@dataclass
class Scored:
    """Streaming sums of one forecaster on one signal."""

    adapter: str | None  # SHA-256 of the blob, hex; None: the frozen base
    levels: tuple[float, ...]
    since: int  # ms, the time of the first scored target by the feed's clock
    until: int  # ms, of the last
    total: Sums
    recent: Sums  # that forgets: half of it in `half_life_days`
    days: dict[int, Sums] = field(default_factory=dict)  # days since 1970 by the feed's clock
    against: dict[str, Against] = field(default_factory=dict)  # "base", "previous"
    said: dict[str, Any] = field(default_factory=dict)  # what reports say, as it was when `publish` last renewed it

    @classmethod
    def begin(cls, adapter: str | None, levels: tuple[float, ...], t_ms: int) -> Scored:
        """Begin with nothing scored."""
        count = len(levels)
        return cls(
            adapter=adapter, levels=levels, since=t_ms, until=t_ms, total=Sums.none(count), recent=Sums.none(count)
        )

    def add(self, scored: FloatArray, t_ms: int, half_life_ms: float) -> None:
        """Add a forecast's scores, whose last target was at ``t_ms``."""
        self.total.values += scored
        self.recent.values *= 0.5 ** (max(t_ms - self.until, 0) / half_life_ms)
        self.recent.values += scored
        self.until = max(self.until, t_ms)
        day = t_ms // DAY_MS
        self.days.setdefault(day, Sums.none(len(self.levels))).values += scored
        for old in sorted(self.days)[:-DAYS]:
            del self.days[old]

    def beside(self, name: str, adapter: str | None, ratio: float | None) -> Against:
        """Return the comparison with another forecaster; it restarts if the name now stands for a different one."""
        found = self.against.get(name)
        if found is None or found.adapter != adapter:
            count = len(self.levels)
            found = self.against[name] = Against(adapter=adapter, own=Sums.none(count), other=Sums.none(count))
            self.said.pop(name, None)
        found.judge_by(ratio)
        return found

    def publish(self, least: int) -> None:
        """Renew what reports say, where at least ``least`` more steps were scored.

        So the difference of two reports is a sum over as many steps, too.
        """
        if self.total.steps - self._said("total") >= least:
            self.said["total"] = self.total.values.tolist()
        for name, one in self.against.items():
            if one.own.steps - self._said(name) >= least:
                self.said[name] = {
                    "adapter": one.adapter,
                    "own": one.own.values.tolist(),
                    "other": one.other.values.tolist(),
                    "units": one.moments,
                    "drift": bool(one.drift_since),
                }

    def _said(self, name: str) -> float:
        """Return how many scored steps a report's sums are over."""
        said = self.said.get(name)
        values = said["own"] if isinstance(said, dict) else said
        return float(values[STEPS]) if values else 0.0

    def figures(self) -> dict[str, Any]:
        """Return the figures for people."""
        return {
            "adapter": self.adapter,
            "since_ms": self.since,
            "until_ms": self.until,
            "quantile_levels": list(self.levels),
            **self.total.figures(),
            "recent": self.recent.figures(),
            "days": {str(day): sums.figures() for day, sums in sorted(self.days.items())},
            "against": {
                name: {
                    "adapter": one.adapter,
                    "runs": one.own.figures(),
                    "other": one.other.figures(),
                    "wql_percent": None if math.isnan(one.percent) else one.percent,
                    "units": int(one.moments[0]),
                    "verdict": None if one.trial is None else one.verdict.value,
                    "drift_since_ms": one.drift_since or None,
                }
                for name, one in self.against.items()
            },
        }

    def to_value(self) -> dict[str, Any]:
        """Encode as plain values."""
        return {
            "adapter": self.adapter,
            "levels": list(self.levels),
            "since": self.since,
            "until": self.until,
            "total": self.total.values.tolist(),
            "recent": self.recent.values.tolist(),
            "days": {str(day): sums.values.tolist() for day, sums in self.days.items()},
            "against": {name: one.to_value() for name, one in self.against.items()},
            "said": self.said,
        }


def scored_of(value: Any) -> Scored:
    """Decode what `Scored.to_value` wrote. Raises `FormatError`, or what wrong kinds of values raise."""
    levels = tuple(float(level) for level in value["levels"])
    count = len(levels)
    if not 1 <= count <= MAX_LEVELS or not isinstance(value["said"], dict):
        raise FormatError(f"quality: want 1 to {MAX_LEVELS} levels, got {count}")
    return Scored(
        adapter=value["adapter"],
        levels=levels,
        since=int(value["since"]),
        until=int(value["until"]),
        total=sums_of(value["total"], count),
        recent=sums_of(value["recent"], count),
        days={int(day): sums_of(sums, count) for day, sums in value["days"].items()},
        against={str(name): against_of(one, count) for name, one in value["against"].items()},
        said=value["said"],
    )
