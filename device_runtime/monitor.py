"""A monitor put together: its settings, the forecaster that opens adapters, and the updates that bring them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from numpy.typing import ArrayLike

from device_runtime.adapt.learnable import Learnable
from device_runtime.adapt.learner import Stay
from device_runtime.adapt.modes import Mode
from device_runtime.errors import SettingsError, SignalMismatchError, StorageError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.feed import read_event, read_lines
from device_runtime.forecast.forecaster import Forecast, Forecaster
from device_runtime.forecast.learning import LearningSession, read_learning
from device_runtime.forecast.session import SessionSettings
from device_runtime.forecast.stream import Stream, StreamSignal
from device_runtime.forecast.threads import settled
from device_runtime.format.binding import Binding, require_said
from device_runtime.format.blob import decode
from device_runtime.format.envelope import Verifier
from device_runtime.own import OwnAdapters
from device_runtime.series.signals import find_signal
from device_runtime.update.install import Installer
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.stays import Feeds


def installer_of(
    config: DeviceConfig, *, verifier: Verifier | None = None, settings: SessionSettings | None = None
) -> Installer[Forecaster]:
    """Check against a monitor's own bundle, with the runtime's own forecaster as the self-test.

    Raises what `Bundle.open` raises.
    """
    bundle = Bundle.open(config.bundle)
    settings = settled(bundle, in_place(config, settings))  # once for all adapters that it tries

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
    bundle = Bundle.open(config.bundle)
    settings = settled(bundle, settings or SessionSettings())

    def open_learnable(blob: bytes | None) -> Learnable:
        return LearningSession.open(config.bundle, blob, settings=settings)

    return OwnAdapters(
        config,
        bundle,
        open_learnable,
        settings=in_place(config, settings),
        read_fourier=lambda: read_learning(config.bundle).fourier,
    )


def in_place(config: DeviceConfig, settings: SessionSettings | None) -> SessionSettings:
    """Put forecasts where a monitor's settings say; what learns stays on the processor, where it is proven."""
    place = config.session
    return replace(
        settings or SessionSettings(),
        provider=place.provider,
        library=place.library,
        options=place.options,
        cpu_fallback=place.cpu_fallback,
    )


def recorded_stays(config: DeviceConfig, path: Path) -> Iterator[Stay]:
    """Give the finished stays of a recorded feed, as a monitor's host would have cut them out of it.

    Raises `StorageError` where it cannot be read, and `InputError` for the first line that `stream` would refuse.
    """
    signal = find_signal(config.signal)
    span = config.use.interval_us
    if not span or not config.signal:
        raise SettingsError("signal and interval: not set, so it is unknown what to learn")
    low, high = (signal.low, signal.high) if signal else (-math.inf, math.inf)
    taker = _Taker(Feeds(gap_steps=config.adapt.gap_steps), span // 1_000)
    stream: Stream | None = None
    try:
        with path.open("rb") as feed:
            for number, line in enumerate(read_lines(feed), start=1):
                if not line.strip():
                    continue
                event = read_event(line, number)
                if stream is None:
                    one = StreamSignal(
                        name=event.name, interval_ms=span // 1_000, low=low, high=high, signal=config.signal
                    )
                    stream = Stream(taker, (one,), context_length=config.adapt.context_length, min_observed=1)
                if event.ends:
                    stream.end_stay(event.name)
                else:
                    if event.item is not None:
                        stream.of_item(event.name, event.item)
                    stream.push(event.name, event.t_ms, event.value)
                yield from taker.finished()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error


class _Taker:
    """Stands in for a host behind a stream: takes samples, forecasts nothing."""

    def __init__(self, feeds: Feeds, interval_ms: int) -> None:
        self._feeds, self._interval_ms = feeds, interval_ms

    def observe(
        self, signal: str, t_ms: int, value: float, *, series: str = "", interval_ms: int | None = None
    ) -> None:
        """Take a sample that the stream took."""
        self._feeds.observe(t_ms, value, interval_ms=self._interval_ms, series=series)

    def end_stay(self, signal: str, *, series: str = "") -> None:
        """Note that a stay is over."""
        self._feeds.end_stay(series=series)

    def forecast(self, context: ArrayLike, *_: object, **__: object) -> Forecast:
        """Not called."""
        raise AssertionError("a recorded feed is not forecast")

    def finished(self) -> Iterator[Stay]:
        """Give what is over."""
        while (stay := self._feeds.next()) is not None:
            yield stay


def _require_said(binding: Binding, config: DeviceConfig) -> None:
    """Refuse a bound adapter on a monitor whose settings do not say what it forecasts. Raises `SignalMismatchError`."""
    try:
        require_said(binding, config.use)
    except SignalMismatchError as error:
        raise SignalMismatchError(
            f"{error.args[0]}: this monitor's settings leave it out",
            hint=f'if that is what it forecasts, add signal = "{binding.name}" and interval = "{binding.interval}"',
        ) from error
