"""The host's measurement of field quality: shadow forecasts, scores, and their file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_runtime.errors import DeviceRuntimeError, InputError, StorageError
from device_runtime.format.binding import Use
from device_runtime.quality.field import BASE, PREVIOUS, FieldQuality, Judgement
from device_runtime.quality.pending import Made
from device_runtime.series.signals import find_signal
from device_runtime.update import field_store
from device_runtime.update.disk import PosixDisk
from device_runtime.update.settings import DeviceConfig

RETRY = 3_600.0  # seconds until a shadow that did not open, or did not forecast, is tried again


class Quantiles(Protocol):
    """A forecast, as far as it is scored: `device_runtime.forecast.forecaster.Forecast`."""

    @property
    def quantiles(self) -> NDArray[np.float32]:
        """Quantiles ``[H, Q]``, or ``[B, H, Q]`` for a batch."""

    @property
    def quantile_levels(self) -> tuple[float, ...]:
        """Levels ``[Q]``."""

    @property
    def adapter(self) -> str | None:
        """SHA-256 of the adapter's blob, hex; None: the frozen base alone."""


F = TypeVar("F", bound=Quantiles)
F_co = TypeVar("F_co", covariant=True)


class Forecasting(Protocol[F_co]):
    """What a host runs: `device_runtime.forecast.forecaster.Forecaster`."""

    @property
    def adapter_digest(self) -> str | None:
        """SHA-256 of the adapter's blob, hex; None: the base alone."""

    def forecast(
        self,
        context: ArrayLike,
        prediction_length: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        *,
        use: Use | None = None,
    ) -> F_co:
        """Forecast a context ``[L]`` or a batch ``[B, L]``."""

    def self_test(self) -> float | None:
        """Run the known-answer test. Raises `SelfTestError`."""


class Watch(Generic[F]):
    """Scores a host's forecasts. A fault of a shadow or of the file never reaches who forecasts: `problem` says it."""

    def __init__(self, config: DeviceConfig, *, clock: Callable[[], float]) -> None:
        self._config, self._clock = config, clock
        self.field = FieldQuality(config.quality, ratio=config.health.ratio)
        self._disk = PosixDisk(config.state)
        self._file_problem = field_store.load(self._disk, self.field)
        self._logged = set(self.field.drifts())  # drift flags that the log has: their figures were written behind it
        self._shadow_problem = ""
        self._open: dict[str, Callable[[], Forecasting[F]]] = {}  # how each shadow is opened
        self._shadows: dict[str, Forecasting[F]] = {}  # those that are open
        self._retry_at = 0.0
        self._dirty = False  # something was scored since the last write
        self._news = False  # something was scored since drift flags were last looked at
        self._saved_at = clock()

    @property
    def problem(self) -> str:
        """Why figures are missing; empty if none are."""
        return "; ".join(filter(None, (self._file_problem, self._shadow_problem)))

    def beside(
        self, *, base: Callable[[], Forecasting[F]] | None, previous: Callable[[], Forecasting[F]] | None
    ) -> None:
        """Say what else is asked for forecasts from now on, and how it is opened; None: nothing under that name.

        It is opened when it is first needed.
        """
        if base is None:
            self._shadows.pop(BASE, None)
        self._shadows.pop(PREVIOUS, None)
        named = ((BASE, base), (PREVIOUS, previous))
        self._open = {name: opens for name, opens in named if opens is not None}
        self._retry_at, self._shadow_problem = 0.0, ""

    def observe(self, signal: str, t_ms: int, value: float, *, interval_ms: int | None, series: str) -> None:
        """Take one sample."""
        if interval_ms is None:
            span = self._config.use.interval_us
            if not span or span % 1_000:
                raise InputError(
                    "observe: the length of a step in whole milliseconds is not given",
                    hint='give interval_ms, or add interval = "1h" to the settings',
                )
            interval_ms = span // 1_000
        self._scored(self.field.observe(one_name(signal), t_ms, value, interval_ms=interval_ms, series=series))

    def end_stay(self, signal: str, *, series: str) -> None:
        """Note that a stay is over."""
        self._scored(self.field.end_stay(one_name(signal), series=series))

    def remember(self, forecast: F, context: ArrayLike, use: Use, *, series: str) -> None:
        """Remember a forecast of one context ``[L]``, and let the others forecast it where it is their turn."""
        quantiles = forecast.quantiles
        if use.signal is None or quantiles.ndim != 2:
            return
        steps, levels = quantiles.shape
        signal = one_name(use.signal)
        keep, shadowed = self.field.wants(signal, steps, levels, series=series)
        if not keep:
            return
        row = np.asarray(context, dtype=np.float32)
        shadows: dict[str, Made] = {}
        if shadowed and self._clock() >= self._retry_at:
            for name in self._open:
                if (made := self._shadow(name, row, steps, forecast.quantile_levels, use)) is not None:
                    shadows[name] = made
        made = Made(adapter=forecast.adapter, quantiles=quantiles)
        self.field.remember(signal, made, forecast.quantile_levels, row, shadows, series=series)

    def judge(self, adapter: str | None, min_scored: int) -> Judgement:
        """Judge an adapter by what was scored."""
        return self.field.judge(adapter, min_scored)

    def unlogged_drift(self) -> dict[tuple[str | None, str], str]:
        """Return the drift flags, by adapter and signal, that are not yet in `logged`, with their figures."""
        if not self._news:
            return {}
        risen = self.field.drifts()
        self._logged &= risen.keys()  # one that another comparison took away may rise again
        found = {key: why for key, why in risen.items() if key not in self._logged}
        self._news = bool(found)
        return found

    def logged(self, keys: Iterable[tuple[str | None, str]]) -> None:
        """Note that the log has these drift flags."""
        self._logged.update(keys)
        self._news = False

    def save_when_due(self) -> None:
        """Write what was scored now and then; behind `logged`, so that a flag in the file is in the log."""
        if self._dirty and self._clock() - self._saved_at >= self._config.quality.save_seconds:
            self.save()

    def save(self) -> None:
        """Write what was scored, if anything was; a disk that refuses is said, and tried again later."""
        if not self._dirty:
            return
        self._saved_at = self._clock()
        try:
            field_store.save(self._disk, self.field)
        except StorageError as error:
            self._file_problem = f"the quality file cannot be written: {error}"
            return
        self._dirty, self._file_problem = False, ""

    def figures(self) -> dict[str, Any]:
        """Return every figure, for people on this monitor."""
        return {"signals": self.field.figures(), "left_out": self.field.left_out, "problem": self.problem}

    def _scored(self, count: int) -> None:
        """Note that forecasts were scored."""
        self._dirty, self._news = self._dirty or count > 0, self._news or count > 0

    def _shadow(
        self, name: str, context: NDArray[np.float32], steps: int, levels: Sequence[float], use: Use
    ) -> Made | None:
        """Let another forecaster forecast the same; None if it cannot, for whatever reason."""
        try:
            if name not in self._shadows:
                self._shadows[name] = self._open[name]()
            forecast = self._shadows[name].forecast(context, steps, levels, use=use)
        except (DeviceRuntimeError, OSError, MemoryError) as error:
            self._retry_at = self._clock() + RETRY
            self._shadow_problem = f"{name} in shadow: {type(error).__name__}: {error}"
            with contextlib.suppress(KeyError):
                del self._shadows[name]
            return None
        return Made(adapter=forecast.adapter, quantiles=forecast.quantiles)


def one_name(signal: str) -> str:
    """Return the name that every name of a vital sign means; another domain's is its own."""
    known = find_signal(signal)
    return known.name if known else signal
