"""When a monitor may do deferrable work: try a staged adapter, or learn."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from device_runtime.errors import SettingsError

Activation = Literal["manual", "idle", "window"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When a staged adapter may be tried."""

    activation: Activation = "manual"
    idle_file: Path | None = None  # the host creates it while no patient is attached
    inhibit_file: Path | None = None  # while it exists, nothing is activated, whatever else is said
    window: str = ""  # "02:00-04:30", local time; may cross midnight

    def __post_init__(self) -> None:
        """Check that the policy can ever say yes."""
        if self.activation not in get_args(Activation):
            raise SettingsError(f"activation {self.activation!r}: want one of {', '.join(get_args(Activation))}")
        if self.activation == "idle" and self.idle_file is None:
            raise SettingsError('activation "idle" needs idle_file')
        if self.activation == "window":
            self.limits()

    def limits(self) -> tuple[dt.time, dt.time]:
        """Return the window's first moment and the one after its last."""
        try:
            first, last = (dt.time.fromisoformat(part.strip()) for part in self.window.split("-"))
        except ValueError as error:
            raise SettingsError(f'window {self.window!r}: want "HH:MM-HH:MM"') from error
        return first, last

    def inhibited(self) -> bool:
        """Whether the host forbids every activation now; if the file cannot be checked, it counts as present."""
        try:
            return self.inhibit_file is not None and self.inhibit_file.exists()
        except OSError:
            return True

    def allows(self, now: dt.datetime) -> tuple[bool, str]:
        """Return whether a trial may begin at the local time ``now``, and if not, why."""
        if self.inhibited():
            return False, f"inhibited by {self.inhibit_file}"
        if self.activation == "manual":
            return False, "activation is manual"
        if self.activation == "idle":
            assert self.idle_file is not None
            try:
                idle = self.idle_file.exists()
            except OSError:  # a file that cannot be looked for counts as not there
                idle = False
            return (True, "") if idle else (False, "the monitor is in use")
        first, last = self.limits()
        moment = now.time()
        inside = first <= moment < last if first <= last else moment >= first or moment < last
        return (True, "") if inside else (False, f"outside of {self.window}")
