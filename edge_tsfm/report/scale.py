"""What an axis says: the signal with its unit, and time in the unit that people say it in."""

from dataclasses import dataclass

from device_runtime.format.binding import Binding
from device_runtime.series.signals import find_signal

PER_MINUTE = {"HR": "bpm", "PULSE": "bpm", "RESP": "breaths/min"}  # for people; files keep 1/min
CLOCKS = (("hours", 3_600_000_000), ("minutes", 60_000_000), ("seconds", 1_000_000))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A signal's name and unit, and how long a step is; an ``interval_us`` of 0 is a step of no stated length."""

    signal: str
    unit: str = ""
    interval_us: int = 0

    @classmethod
    def of(cls, binding: Binding) -> "Scale":
        """Return the scale of what an adapter is for."""
        known = find_signal(binding.name)
        unit = known.unit if known and known.ucum == binding.unit else binding.unit
        return cls(signal=binding.name, unit=PER_MINUTE.get(binding.name, unit), interval_us=binding.interval_us)

    @property
    def value_label(self) -> str:
        """Name the values: ``MAP [mmHg]``."""
        return f"{self.signal} [{self.unit}]" if self.unit else self.signal

    @property
    def clock(self) -> str:
        """Name the unit of time: the largest in which a step is a half or more."""
        return next((name for name, size in CLOCKS if self.interval_us >= size / 2), "steps")

    @property
    def step(self) -> float:
        """Return how long a step is, in `clock`."""
        return next((self.interval_us / size for _, size in CLOCKS if self.interval_us >= size / 2), 1.0)

    def squared(self) -> str:
        """Return the unit of a squared error: ``mmHg²``."""
        return f"{f'({self.unit})' if '/' in self.unit else self.unit}²" if self.unit else ""
