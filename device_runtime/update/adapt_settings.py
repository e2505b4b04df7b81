"""``[adapt]`` of a monitor's settings: the rules of learning, and when and how far this monitor learns."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal, get_args

from device_runtime.adapt.modes import Mode
from device_runtime.adapt.rules import AdaptRules, Keep
from device_runtime.errors import SettingsError
from device_runtime.update.policy import Policy

Promoter = Literal["device", "hand"]
MS_A_MINUTE = 60_000.0


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(AdaptRules):
    """``[adapt]``: off by default, and only for the signal that the settings name. Valid once built."""

    enabled_by: str = ""  # who allows more than shadow: one of the names in the envelope
    promote: Promoter = "device"  # "hand": a candidate that has passed waits for `adapt promote`
    context_length: int = 48  # steps of context in learning, unless the adapter says otherwise
    prediction_length: int = 6  # steps forecast in learning
    ms_per_minute: float = 200.0  # most processor time for learning, while no forecast waits
    gap_steps: int = 0  # steps without a sample that end a stay; 0: 48, or those of 10 minutes
    kib_per_day: int = 4_096  # most that learning writes to the disk
    policy: Policy | None = None  # when it may learn; None: whenever no input waits

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        super().__post_init__()
        for name, kind in (("mode", Mode), ("keep_windows", Keep), ("promote", Promoter)):
            choices = list(Mode) if kind is Mode else get_args(kind)
            if getattr(self, name) not in choices:
                raise SettingsError(f"{name} {getattr(self, name)!r}: want one of {', '.join(choices)}")
        if not 1 <= self.context_length <= 65_535 or not 1 <= self.prediction_length <= 1_024:
            raise SettingsError(
                f"context_length {self.context_length}, prediction_length {self.prediction_length}: want 1 to 65535 "
                "and 1 to 1024"
            )
        if not 0 < self.ms_per_minute <= MS_A_MINUTE:
            raise SettingsError(f"ms_per_minute {self.ms_per_minute:g}: want more than 0 and at most 60000")
        if not 0 <= self.gap_steps <= 1_000_000:
            raise SettingsError(f"gap_steps {self.gap_steps}: want 0 to 1000000")
        if not 64 <= self.kib_per_day <= 1_048_576:
            raise SettingsError(f"kib_per_day {self.kib_per_day}: want 64 to 1048576")
        if self.policy is not None and self.policy.activation == "manual":
            raise SettingsError(
                'policy: activation "manual" would never learn', hint='mode = "off", or activation "idle" or "window"'
            )

    def may_learn(self, now: dt.datetime) -> tuple[bool, str]:
        """Return whether it may learn at the local time ``now``, and if not, why."""
        return (True, "") if self.policy is None else self.policy.allows(now)
