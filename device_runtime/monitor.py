"""A monitor put together: its settings, the forecaster that opens adapters, and the updates that bring them."""

from __future__ import annotations

from device_runtime.adapt.learnable import Learnable
from device_runtime.adapt.modes import Mode
from device_runtime.errors import SignalMismatchError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.learning import LearningSession
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.binding import Binding, require_said
from device_runtime.format.blob import decode
from device_runtime.format.envelope import Verifier
from device_runtime.own import OwnAdapters
from device_runtime.update.install import Installer
from device_runtime.update.settings import DeviceConfig


def installer_of(
    config: DeviceConfig, *, verifier: Verifier | None = None, settings: SessionSettings | None = None
) -> Installer[Forecaster]:
    """Check against a monitor's own bundle, with the runtime's own forecaster as the self-test.

    Raises what `Bundle.open` raises.
    """
    bundle = Bundle.open(config.bundle)

    def self_test(blob: bytes | None) -> Forecaster:
        if blob is not None and (binding := decode(blob).binding) is not None:
            _require_said(binding, config)
        return Forecaster.open(bundle, blob, settings=settings, use=config.use, accept=config.accept_differences)

    return Installer(
        trusted_keys=config.trusted_keys,
        threshold=config.threshold,
        base_digest=bundle.digest,
        self_test=self_test,
        verifier=verifier,
        base_test=lambda: self_test(None),
    )


def workshop_of(config: DeviceConfig, *, settings: SessionSettings | None = None) -> OwnAdapters | None:
    """Learn on a monitor's own bundle; None where its settings say that it does not. Raises what `Bundle.open` raises.

    The learning graphs are opened when there is something to learn from.
    """
    if config.adapt.mode is Mode.OFF:
        return None

    def open_learnable(blob: bytes | None) -> Learnable:
        return LearningSession.open(config.bundle, blob, settings=settings)

    return OwnAdapters(config, Bundle.open(config.bundle), open_learnable, settings=settings)


def _require_said(binding: Binding, config: DeviceConfig) -> None:
    """Refuse a bound adapter on a monitor whose settings do not say what it forecasts. Raises `SignalMismatchError`."""
    try:
        require_said(binding, config.use)
    except SignalMismatchError as error:
        raise SignalMismatchError(
            f"{error.args[0]}: this monitor's settings leave it out",
            hint=f'if that is what it forecasts, add signal = "{binding.name}" and interval = "{binding.interval}"',
        ) from error
