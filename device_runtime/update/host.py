"""`Host`: forecasts with the adapter a device has installed, and judges one on trial by the forecasts it makes.

The process that forecasts and the one that updates share nothing but the device's state: the host looks at the record
before every forecast, so an update, a confirmation or a rollback takes effect at the next one. What the machine kept
from coming up is tried again, and said until it has come up (`Host.problem`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from numpy.typing import ArrayLike

from device_runtime.errors import DeviceRuntimeError, InputError, LockedError, StorageError
from device_runtime.faults import Fault, fault_of
from device_runtime.format.binding import Use
from device_runtime.update.health import HealthWindow, Verdict
from device_runtime.update.lifecycle import State
from device_runtime.update.notes import RUNNING, Running, leave
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots, locked, slots_of
from device_runtime.update.start import Opener, Started, start

START_WAIT = 30.0  # seconds for another process to finish its change
FIRST_RETRY, LAST_RETRY = 1.0, 900.0  # seconds until the next attempt at what the machine kept from coming up
PROBE_EVERY = 3_600.0  # seconds after which the known answer is asked again of what runs


F = TypeVar("F")
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
        """Ask for the known answer. Raises `SelfTestError`."""


class Host(Generic[F]):
    """One device's running forecaster. Not thread-safe: one process, one host."""

    def __init__(
        self,
        config: DeviceConfig,
        open_adapter: Opener[Forecasting[F]],
        *,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] | None = None,
    ) -> None:
        """Start what the record names, or the next safer thing.

        ``open_adapter`` is `Installer.open`; ``clock`` counts seconds and never goes back; ``changed`` is called after
        this process changed the record, to report it. Raises `LockedError` while another process holds the state, and
        what the base alone raises when it does not come up.
        """
        self._config, self._open, self._clock, self._changed = config, open_adapter, clock, changed
        self._window: HealthWindow | None = None
        self._generation = -1
        self._wait = FIRST_RETRY
        self._retry_at = self._probe_at = 0.0
        self._down: DeviceRuntimeError | None = None
        self.started: Started[Forecasting[F]]
        with self._slots(wait=START_WAIT) as slots:
            with contextlib.suppress(StorageError):
                slots.expire(self._config.trial_days)
            self._begin(slots)

    @property
    def problem(self) -> str:
        """Why something else runs than the record names; empty when nothing went wrong."""
        return "; ".join(self.started.failures)

    def refresh(self) -> bool:
        """Take over what another process activated, confirmed or took back; return whether the record had changed.

        Most of the time it has not, and one small file is read to see that, without the lock. Raises `StorageError`
        while the record cannot be read, and what the base alone raises when nothing comes up.
        """
        if not self._differs(self._open_slots()):
            return False
        with self._slots() as slots:
            if not self._differs(slots):
                return False
            self._begin(slots)
        return True

    def _differs(self, slots: Slots) -> bool:
        """Whether the record is another one. Raises `StorageError` when nobody can tell now."""
        if slots.unreadable:
            raise StorageError(slots.unreadable)
        return slots.record.generation != self._generation

    def forecast(
        self,
        context: ArrayLike,
        prediction_length: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        *,
        use: Use | None = None,
    ) -> F:
        """Forecast as `Forecaster.forecast` does, and count the result for a trial's health window.

        A context that cannot be forecast from, one that the adapter is not for, or a machine without memory, is no
        fault of the adapter and is not counted. A trial that fails its window ends at once: the next forecast is the
        safer adapter's. Raises what keeps everything from coming up, when what ran was taken back and not even the
        base alone opens.
        """
        # A change that is being written, or a disk that cannot be read: its turn comes at the next forecast.
        with contextlib.suppress(StorageError):
            if not self.refresh():
                self._try_again()
        if self._down is not None:
            raise self._down
        began = self._clock()
        try:
            forecast = self.started.running.forecast(context, prediction_length, quantile_levels, use=use)
        except InputError:
            raise
        except DeviceRuntimeError as error:
            if fault_of(error) is Fault.SENDER:
                self._judge(ok=False, latency=self._clock() - began, reason=str(error))
            raise
        self._judge(ok=True, latency=self._clock() - began)
        return forecast

    def _try_again(self) -> None:
        """Try what the machine kept from coming up, ever more rarely; and ask what runs for its known answer.

        Raises `StorageError` when the state cannot be read.
        """
        now = self._clock()
        if self.started.retry and now >= self._retry_at:
            with self._slots() as slots:
                self._differs(slots)
                self._begin(slots, keep=self.started)
        elif now >= self._probe_at:
            self._probe_at = now + PROBE_EVERY
            try:
                self.started.running.self_test()
            except DeviceRuntimeError:  # what was right when it was opened is wrong now: open it anew
                with self._slots() as slots:
                    self._begin(slots)

    def _judge(self, *, ok: bool, latency: float, reason: str = "") -> None:
        """Count a forecast of a trial; confirm or end the trial when its window says so."""
        if self._window is None:
            return
        self._window.observe(ok=ok, latency=latency, reason=reason)
        verdict = self._window.verdict(self._clock())
        if verdict is Verdict.WAIT:
            return
        with contextlib.suppress(StorageError), self._slots() as slots:  # what cannot be written waits for the next one
            if self._differs(slots):
                self._begin(slots)  # somebody else decided
            elif verdict is Verdict.PASSED:
                slots.confirm(f"health window passed, {self._window.forecasts} forecasts", who="device")
                self._window, self._generation = None, slots.record.generation
                self.started = replace(self.started, state=State.CONFIRMED)
                self._say()
                self._report()
            else:
                self._begin(slots, failed=f"health window: {self._window.reason}")

    def _begin(self, slots: Slots, *, failed: str = "", keep: Started[Forecasting[F]] | None = None) -> None:
        """Bring up what the record names, with a new window if it is on trial; what ``failed`` does not come up."""
        before, now = slots.record.generation, self._clock()
        try:
            self.started = start(slots, self._open, channel=self._config.channel, failed=failed, keep=keep)
        except (DeviceRuntimeError, OSError, MemoryError) as error:
            # What ran may have been taken back, so it does not go on; the next forecast tries again.
            self._generation = -1
            self._down = (
                error
                if isinstance(error, DeviceRuntimeError)
                else StorageError(f"nothing comes up: {type(error).__name__}: {error}")
            )
            raise self._down from error
        self._down = None
        self._generation = -1 if slots.unreadable else slots.record.generation
        self._wait = min(2 * self._wait, LAST_RETRY) if keep is not None else FIRST_RETRY
        self._retry_at, self._probe_at = now + self._wait, now + PROBE_EVERY
        on_trial = self.started.state is State.TRIAL
        self._window = HealthWindow(self._config.health, at=now) if on_trial else None
        self._say()
        if slots.record.generation != before:
            self._report()

    def _say(self) -> None:
        """Leave word of what really runs, for `status` and reports."""
        note = Running(
            adapter=self.started.running.adapter_digest,
            generation=self._generation,
            problem=self.problem,
            at=round(time.time(), 3),
        )
        leave(self._config.state, RUNNING, note)

    def _report(self) -> None:
        """Tell whoever reports that the record has changed."""
        if self._changed is not None:
            self._changed()

    @contextlib.contextmanager
    def _slots(self, *, wait: float = 0.0) -> Iterator[Slots]:
        """Open the device's state, locked; where no lock can be had it is only read, as on a read-only disk."""
        with contextlib.ExitStack() as stack:
            unlocked = ""
            try:
                stack.enter_context(locked(self._config.state, wait=wait))
            except LockedError:
                raise
            except StorageError as error:
                unlocked = str(error)
            slots = self._open_slots()
            slots.unlocked = unlocked
            yield slots

    def _open_slots(self) -> Slots:
        """Read the device's record."""
        return slots_of(self._config)
