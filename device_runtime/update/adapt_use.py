"""What a monitor learns: from the adapter that it stands on, else from its settings."""

from __future__ import annotations

from device_runtime.errors import SettingsError
from device_runtime.format.adapter import Adapter
from device_runtime.format.binding import Binding
from device_runtime.format.manifest import Manifest
from device_runtime.series.signals import find_signal
from device_runtime.update.settings import DeviceConfig


def binding_of(config: DeviceConfig, manifest: Manifest, under: Adapter | None) -> Binding:
    """What is learnt: what the adapter is for, else what the settings say. Raises `SettingsError`."""
    if under is not None and under.binding is not None:
        return under.binding
    rules, use = config.adapt, config.use
    if not use.signal or not use.interval_us:
        raise SettingsError("signal and interval: not set, so it is unknown what to learn")
    return Binding.of(
        use.signal,
        interval_us=use.interval_us,
        context_length=min(rules.context_length, manifest.context_length),
        prediction_length=min(rules.prediction_length, manifest.prediction_length),
    )


def plausible_of(binding: Binding) -> tuple[float, float]:
    """Values outside of these are no readings."""
    known = find_signal(binding.name)
    return (known.low, known.high) if known else (binding.low, binding.high)


def typical_of(config: DeviceConfig, manifest: Manifest, under: Adapter | None) -> tuple[float, float]:
    """A typical level and spread of the signal, from public figures: a blob has no patient's values."""
    known = find_signal(config.signal)
    stated = manifest.known_answer
    answer = under.known_answer if under is not None else stated.as_test() if stated else None
    if under is None and known is not None:
        return (known.low + known.high) / 2, (known.high - known.low) / 20
    if answer is None:
        return 80.0, 10.0
    return float(answer.context.mean()), float(answer.context.std()) or 1.0
