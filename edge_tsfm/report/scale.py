"""Labels of axes: the signal with its unit, and time in a familiar unit."""

from dataclasses import dataclass

from device_runtime.format.binding import Binding
from device_runtime.series.signals import find_signal

PER_MINUTE = {"HR": "bpm", "PULSE": "bpm", "RESP": "breaths/min"}  # on pages; files have 1/min
CLOCKS = (("hours", 3_600_000_000), ("minutes", 60_000_000), ("seconds", 1_000_000))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A signal's name and unit, and the length of a step; 0 if ``interval_us`` is not known."""

    signal: str
    unit: str = ""
    interval_us: int = 0

    @classmethod
    def of(cls, binding: Binding) -> "Scale":
        """Return the scale of the signal that an adapter is for."""
        known = find_signal(binding.name)
        unit = known.unit if known and known.ucum == binding.unit else binding.unit
        return cls(signal=binding.name, unit=PER_MINUTE.get(binding.name, unit), interval_us=binding.interval_us)

    @property
    def value_label(self) -> str:
        """Label of the values: ``MAP [mmHg]``."""
        return f"{self.signal} [{self.unit}]" if self.unit else self.signal

    @property
    def clock(self) -> str:
        """Unit of time: the largest in which a step is at least one half."""
        return next((name for name, size in CLOCKS if self.interval_us >= size / 2), "steps")

    @property
    def step(self) -> float:
        """Length of a step in the unit of `clock`."""
        return next((self.interval_us / size for _, size in CLOCKS if self.interval_us >= size / 2), 1.0)

    def squared(self) -> str:
        """Return the unit of a squared error: ``mmHg²``."""
        return f"{f'({self.unit})' if '/' in self.unit else self.unit}²" if self.unit else ""
