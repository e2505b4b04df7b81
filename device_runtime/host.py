"""`Host`: forecasts with the adapter a device has installed, and judges one on trial by the forecasts it makes.

The process that forecasts and the one that updates share nothing but the device's state: the host looks at the record
before every forecast, so an update, a confirmation or a rollback takes effect at the next one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from numpy.typing import ArrayLike

from device_runtime.binding import Use
from device_runtime.device_config import DeviceConfig
from device_runtime.disk import PosixDisk
from device_runtime.errors import DeviceRuntimeError, InputError, LockedError, SignalMismatchError, StorageError
from device_runtime.forecaster import Forecast, Forecaster
from device_runtime.health import HealthWindow, Verdict
from device_runtime.lifecycle import State
from device_runtime.slots import Slots, locked
from device_runtime.start import Opener, Started, start

START_WAIT = 30.0  # seconds for another process to finish its change


class Host:
    """One device's running forecaster. Not thread-safe: one process, one host."""

    def __init__(
        self, config: DeviceConfig, open_adapter: Opener[Forecaster], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start what the record names, or the next safer thing.

        ``open_adapter`` is `Installer.open`; ``clock`` counts seconds and never goes back. Raises `LockedError` while
        another process holds the state, and what the base alone raises when it does not come up.
        """
        self._config, self._open, self._clock = config, open_adapter, clock
        self._window: HealthWindow | None = None
        self._generation = -1
        self.started: Started[Forecaster]
        with self._slots(wait=START_WAIT) as slots:
            self._begin(slots)

    def refresh(self) -> bool:
        """Take over what another process activated, confirmed or took back; return whether the record had changed.

        Most of the time it has not, and one small file is read to see that, without the lock.
        """
        if self._open_slots().record.generation == self._generation:
            return False
        with self._slots() as slots:
            if slots.record.generation == self._generation:
                return False
            self._begin(slots)
        return True

    def forecast(
        self,
        context: ArrayLike,
        prediction_length: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        *,
        use: Use | None = None,
    ) -> Forecast:
        """Forecast as `Forecaster.forecast` does, and count the result for a trial's health window.

        A context that cannot be forecast from, or one that the adapter is not for, is no fault of the adapter and is
        not counted. A trial that fails its
        window ends at once: the next forecast is the safer adapter's.
        """
        # A change that is being written, or a disk that cannot be read: its turn comes at the next forecast.
        with contextlib.suppress(StorageError):
            self.refresh()
        began = self._clock()
        try:
            forecast = self.started.running.forecast(context, prediction_length, quantile_levels, use=use)
        except (InputError, SignalMismatchError):
            raise
        except DeviceRuntimeError as error:
            self._judge(ok=False, latency=self._clock() - began, reason=str(error))
            raise
        self._judge(ok=True, latency=self._clock() - began)
        return forecast

    def _judge(self, *, ok: bool, latency: float, reason: str = "") -> None:
        """Count a forecast of a trial; confirm or end the trial when its window says so."""
        if self._window is None:
            return
        self._window.observe(ok=ok, latency=latency, reason=reason)
        verdict = self._window.verdict(self._clock())
        if verdict is Verdict.WAIT:
            return
        with contextlib.suppress(StorageError), self._slots() as slots:  # what cannot be written waits for the next one
            if slots.record.generation != self._generation:
                self._begin(slots)  # somebody else decided
            elif verdict is Verdict.PASSED:
                slots.confirm(f"health window passed, {self._window.forecasts} forecasts", who="device")
                self._window, self._generation = None, slots.record.generation
                self.started = replace(self.started, state=State.CONFIRMED)
            else:
                self._begin(slots, failed=f"health window: {self._window.reason}")

    def _begin(self, slots: Slots, *, failed: str = "") -> None:
        """Bring up what the record names, with a new window if it is on trial; what ``failed`` does not come up."""
        self.started = start(slots, self._open, channel=self._config.channel, failed=failed)
        self._generation = slots.record.generation
        on_trial = self.started.state is State.TRIAL
        self._window = HealthWindow(self._config.health, at=self._clock()) if on_trial else None

    @contextlib.contextmanager
    def _slots(self, *, wait: float = 0.0) -> Iterator[Slots]:
        """Open the device's state, locked; on a disk that cannot be written without, for nothing can change there."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self._config.state, wait=wait))
            except LockedError:
                raise
            except StorageError:
                pass
            yield self._open_slots()

    def _open_slots(self) -> Slots:
        """Read the device's record."""
        return Slots(PosixDisk(self._config.state), device_id=self._config.device_id)
