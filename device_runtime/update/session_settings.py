"""Where a monitor's forecasts run: ``[session]`` in its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from device_runtime.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class SessionPlace:
    """An execution provider, as ``--provider`` and the options beside it say it."""

    provider: str = "cpu"
    library: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    cpu_fallback: bool = False

    def __post_init__(self) -> None:
        """Refuse what belongs to a provider where there is none."""
        if not self.provider:
            raise SettingsError("provider: want a name, such as cpu or openvino")
        if self.provider == "cpu" and (self.library or self.options or self.cpu_fallback):
            raise SettingsError("library, options and cpu_fallback are a provider's: say which", hint='provider = "…"')
