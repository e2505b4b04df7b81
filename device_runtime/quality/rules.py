"""The settings of field quality on a monitor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from device_runtime.errors import SettingsError

Unit = Literal["block", "stay"]
LEAST_REPORTED = 20  # scored steps; fewer could be one patient's few hours


@dataclass(frozen=True, kw_only=True)
class QualityRules:
    """``[quality]`` of a monitor's settings. Valid once built."""

    shadow_every: int = 4  # one forecast in so many is also made by the frozen base; 0: none
    late_steps: int = 2  # steps that a forecast waits for late samples once its last target's step has begun
    half_life_days: float = 7.0  # of the exponentially weighted figures
    unit: Unit = "block"  # one observation in the evidence: a block of horizons, or a whole stay
    min_reported: int = 100  # least scored steps behind every figure in a report, and between those of two reports
    save_seconds: float = 300.0  # between two writes of the figures: the most that a power cut may lose

    def __post_init__(self) -> None:
        """Refuse rules that mean nothing."""
        if not 0 <= self.shadow_every <= 1_000_000 or not 0 <= self.late_steps <= 1_000:
            raise SettingsError(
                f"shadow_every {self.shadow_every}, late_steps {self.late_steps}: want 0 to 1000000 and 0 to 1000"
            )
        if not 0 < self.half_life_days <= 3650 or not 1 <= self.save_seconds <= 86_400:
            raise SettingsError(
                f"half_life_days {self.half_life_days:g}, save_seconds {self.save_seconds:g}: "
                "want more than 0 and at most 3650, and 1 to 86400"
            )
        if self.unit not in get_args(Unit):
            raise SettingsError(f"unit {self.unit!r}: want one of {', '.join(get_args(Unit))}")
        if self.min_reported < LEAST_REPORTED:
            raise SettingsError(f"min_reported {self.min_reported}: want at least {LEAST_REPORTED}")
