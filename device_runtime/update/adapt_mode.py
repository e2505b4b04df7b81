"""The mode and the rules of learning in force: the monitor's settings, limited by its envelope. Pure."""

from __future__ import annotations

from typing import NamedTuple

from device_runtime.adapt.envelope import Envelope, further
from device_runtime.adapt.modes import MODES, May, Mode
from device_runtime.errors import SettingsError
from device_runtime.update.adapt_settings import AdaptSettings


class Allowed(NamedTuple):
    """A mode with its rules, and why it is not what the settings say; empty where it is."""

    mode: Mode
    rules: AdaptSettings
    why: str = ""

    @property
    def may(self) -> May:
        """What the mode allows."""
        return MODES[self.mode]


def allowed(settings: AdaptSettings, envelope: Envelope | None, problem: str = "") -> Allowed:
    """Return how far learning may go. ``problem`` says why an envelope that is there cannot be used."""
    if envelope is not None:
        mode, why = envelope.allows(settings.mode, settings.enabled_by)
        try:
            return Allowed(mode, envelope.bounded(settings), why)
        except SettingsError as error:
            problem = f"these settings do not go with the envelope: {error.args[0]}"
    if not further(settings.mode, Mode.SHADOW):
        return Allowed(settings.mode, settings, problem)
    return Allowed(Mode.SHADOW, settings, problem or f"without an envelope shadow is the most, not {settings.mode}")
