"""How a monitor learns: a table of its settings and their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from device_runtime.adapt.modes import Mode
from device_runtime.errors import SettingsError

Keep = Literal["memory", "disk"]
DENSE_MS = 300_000  # a stream with a step every 5 minutes or more often is dense
# What is chosen where a setting was left at 0: on dense streams, on others (docs/results/adaptation.md).
CHOSEN: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "steps": (20, 4),
        "first_windows": (8, 64),
        "rate": (0.003, 0.001),
        "average": (0.9, 0.98),
        "promote_stays": (25, 100),
    }
)
# A run is flat beyond the longer of both, where nobody says how long one is: SpO2 is told in whole percents, and keeps
# one for minutes (a limit of 120 s left 29 % of it out; docs/results/adaptation.md).
LEAST_FLAT, LEAST_FLAT_MS = 120, 600_000
STRIDES = (6, 2)  # windows to learn from that begin within one forecast

# Each setting's least and most, both allowed; what is no number is checked by its type.
BOUNDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "windows": (32, 8_192),
        "new_windows": (1, 64),
        "kept_windows": (1, 512),
        "batch": (4, 256),
        "steps": (0, 64),
        "stride": (0, 1_024),
        "first_windows": (0, 4_096),
        "scored_windows": (1, 512),
        "rate": (0, 0.03),
        "average": (0, 0.9999),
        "blend": (0.05, 1),
        "anchor": (0, 10),
        "clip_norm": (1e-3, 100),
        "clip_spreads": (1, 20),
        "cap_tensor": (0, 1),
        "cap_day": (0, 1),
        "promote_evidence": (10, 1e9),
        "promote_stays": (0, 100_000),
        "demote_evidence": (2, 1e9),
        "offset_rate": (0, 0.01),
        "width_rate": (0, 0.5),
        "cap_tracking": (0.01, 0.5),
        "seed": (0, 2**31 - 1),
        "jump_spreads": (1, 100),
        "jump_share": (0, 10),
        "jump_steps": (1, 1_000),
        "flat_steps": (0, 100_000),
    }
)


def _check(rules: object) -> None:
    """Refuse a number beyond its bounds. Raises `SettingsError`."""
    for name, value in vars(rules).items():
        least, most = BOUNDS.get(name, (None, None))
        if least is not None and most is not None and not least <= value <= most:
            raise SettingsError(f"{name} {value:g}: want {least:g} to {most:g}")


@dataclass(frozen=True, kw_only=True)
class CleanRules:
    """``[adapt.clean]``: which values are removed before learning and scoring. Valid once built."""

    jump_spreads: float = 6.0  # a difference between neighbours above so many mean ones of the stay is a jump,
    jump_share: float = 0.2  # if it is also above this share of the stay's median
    jump_steps: int = 16  # an excursion that returns within so many steps is an artefact; one that stays is a change
    flat_steps: int = 0  # more equal values in a row mean that the sensor is stuck; 0: 120, or those of 10 minutes

    def __post_init__(self) -> None:
        """Refuse rules that mean nothing."""
        _check(self)

    def at(self, interval_ms: int) -> CleanRules:
        """Fill in what was left at 0, by the time between two steps."""
        return replace(self, flat_steps=self.flat_steps or max(LEAST_FLAT, LEAST_FLAT_MS // interval_ms))


@dataclass(frozen=True, kw_only=True)
class AdaptRules:
    """``[adapt]`` of a monitor's settings. Valid once built."""

    mode: Mode = Mode.OFF  # what a monitor may do with what it learns
    # --- memory
    windows: int = 1_024  # windows of finished stays that are kept to learn from again
    new_windows: int = 8  # windows of the new stay in each batch
    kept_windows: int = 40  # windows of each stay that are kept
    keep_windows: Keep = "memory"  # "disk": also in the learner's state on disk
    stride: int = 0  # steps between two windows to learn from; 0: a sixth of a forecast on dense streams, else half
    # --- learning
    steps: int = 0  # steps of Adam for each finished stay; 0: 20 on dense streams, else 4
    batch: int = 32  # windows in a step; those that are not new are drawn from the kept ones
    first_windows: int = 0  # no step before so many windows were seen; 0: 8 on dense streams, else 64
    rate: float = 0.0  # learning rate of Adam; 0: 0.003 on dense streams, else 0.001
    average: float = 0.0  # decay of the iterates' moving average; 0: 0.9 on dense streams, else 0.98
    blend: float = 0.5  # the candidate, between the installed model (0) and that average (1)
    anchor: float = 0.0  # weight of the squared shift in the loss: pulls towards the installed model
    clip_norm: float = 1.0  # largest norm of the gradient
    clip_spreads: float = 20.0  # targets are clipped at so many standard deviations of their context
    cap_tensor: float = 0.2  # largest root mean square of one tensor's shift
    cap_day: float = 0.1  # largest root mean square of the change of the shift in one day
    # --- evidence
    scored_windows: int = 64  # most scored windows of each stay: evenly spaced, three within a forecast's length
    promote_evidence: float = 20.0  # evidence needed that the candidate is better
    promote_stays: int = 0  # least number of stays that it was scored on; 0: 25 on dense streams, else 100
    demote_evidence: float = 20.0  # evidence that demotes: the promoted model is worse than the installed one
    # --- one patient's stream
    long_stream: bool = False  # also track it by calibration offsets: days of one patient, a step every 5 min or less
    offset_rate: float = 0.001  # step of the offsets for each target, in interval widths
    width_rate: float = 0.0  # step of the width factor for each forecast; 0: the factor stays 1
    cap_tracking: float = 0.5  # most widths by which an offset moves a level; the factor stays within 1 ± this
    # --- other
    seed: int = 0  # for drawing windows
    clean: CleanRules = field(default_factory=CleanRules)

    def __post_init__(self) -> None:
        """Refuse rules that mean nothing."""
        _check(self)
        if self.new_windows > self.batch:
            raise SettingsError(f"new_windows {self.new_windows}: want at most batch, {self.batch}")
        if self.batch > self.windows:
            raise SettingsError(f"batch {self.batch}: want at most windows, {self.windows}")

    def at(self, interval_ms: int, steps: int) -> AdaptRules:
        """Fill in what was left at 0, by the time between two steps and how many a forecast has."""
        place = 0 if interval_ms <= DENSE_MS else 1
        stride = self.stride or max(1, steps // STRIDES[place])
        left = {name: type(getattr(self, name))(one[place]) for name, one in CHOSEN.items() if not getattr(self, name)}
        return replace(self, stride=stride, clean=self.clean.at(interval_ms), **left)
