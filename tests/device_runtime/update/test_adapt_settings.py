"""`[adapt]` in the settings: what means nothing is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from device_runtime.adapt.modes import Mode
from device_runtime.adapt.rules import AdaptRules
from device_runtime.errors import SettingsError, StateError
from device_runtime.update.adapt_settings import AdaptSettings
from tests.simulators.learning_bed import LearningBed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mode": "loud"}, "mode"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"ms_per_minute": 0.0}, "ms_per_minute"),
        ({"kib_per_day": 1}, "kib_per_day"),
        ({"promote": "me"}, "promote"),
        ({"keep_windows": "cloud"}, "keep_windows"),
        ({"policy": {"activation": "manual"}}, "never learn"),
        ({"rate": 1.0}, "rate 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], said: str) -> None:
    from device_runtime.binder import bind

    with pytest.raises(SettingsError, match=said):
        bind(AdaptSettings, settings, "device.toml", error=SettingsError)


def test_learning_wants_to_know_what(tmp_path: Path) -> None:
    bed = LearningBed(tmp_path, mode=Mode.OFF, envelope=False)
    with pytest.raises(SettingsError, match="want signal and interval"):
        replace(bed.config, signal="", adapt=replace(bed.config.adapt, mode=Mode.SHADOW))
    assert bed.host.learns is False
    with pytest.raises(StateError):
        bed.slots.demote("x", who="y")
    assert AdaptRules().mode is Mode.OFF
