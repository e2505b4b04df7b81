"""`Host`: forecasts with the adapter a device has installed, and judges one on trial by the forecasts it makes.

The process that forecasts and the one that updates share nothing but the device's state: the host looks at the record
before every forecast, so an update, a confirmation or a rollback takes effect at the next one. If a machine fault keeps
an adapter from opening, it is reported (`Host.problem`) and tried again until it opens.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Generic

from numpy.typing import ArrayLike

from device_runtime.adapt.bets import Proposal
from device_runtime.adapt.modes import Mode
from device_runtime.errors import DeviceRuntimeError, InputError, StorageError
from device_runtime.faults import Fault, fault_of
from device_runtime.format.binding import Use
from device_runtime.update.adapting import Adapting
from device_runtime.update.health import Health, HealthWindow
from device_runtime.update.lifecycle import Entry, State
from device_runtime.update.notes import LEARNING, RUNNING, Learning, Running, leave
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.slots import Slots, locked_slots, slots_of
from device_runtime.update.start import Opener, Started, start
from device_runtime.update.watch import F, Forecasting, Watch, one_name
from device_runtime.update.workshop import Workshop

START_WAIT = 30.0  # seconds for another process to finish its change
FIRST_RETRY, LAST_RETRY = 1.0, 900.0  # seconds until the next attempt after a fault of the machine
PROBE_EVERY = 3_600.0  # seconds between known-answer tests of the running model


class Host(Generic[F]):
    """One device's running forecaster. Not thread-safe: one process, one host."""

    def __init__(
        self,
        config: DeviceConfig,
        open_adapter: Opener[Forecasting[F]],
        *,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] | None = None,
        workshop: Workshop[Forecasting[F]] | None = None,
    ) -> None:
        """Start the adapter that the record names, or a safer one.

        ``open_adapter`` is `Installer.open`; ``clock`` counts seconds and never goes back; ``changed`` is called after
        this process changed the record, to report it; ``workshop`` is `device_runtime.monitor.workshop_of`, without
        which nothing is learnt, and nothing that was learnt forecasts.

        Raises `LockedError` while another process holds the state, and what the base alone raises when it does not
        come up.
        """
        self._config, self._open, self._clock, self._changed = config, open_adapter, clock, changed
        self._window: HealthWindow | None = None
        self._generation = -1
        self._wait = FIRST_RETRY
        self._retry_at = self._probe_at = 0.0
        self._down: DeviceRuntimeError | None = None
        self._watch: Watch[F] = Watch(config, clock=clock)
        self._adapting: Adapting[F] = Adapting(config, workshop, clock=clock)
        self._own: Entry | None = None  # the adapter that was learnt here and promoted, whether it opened or not
        self._said: tuple[str, str, str] = (Mode.OFF, "", "")
        self.started: Started[Forecasting[F]]
        with self._slots(wait=START_WAIT) as slots:
            with contextlib.suppress(StorageError):
                slots.expire(self._config.trial_days)
            self._begin(slots)

    @property
    def problem(self) -> str:
        """Why something other than the record's adapter runs; empty if nothing went wrong."""
        return "; ".join(self.started.failures)

    def refresh(self) -> bool:
        """Pick up what another process activated, confirmed or rolled back; return whether the record had changed.

        Most of the time it has not, and one small file is read to see that, without the lock. Raises `StorageError`
        while the record cannot be read, and what the base alone raises if nothing opens.
        """
        if not self._differs(self._open_slots()):
            return False
        with self._slots() as slots:
            if not self._differs(slots):
                return False
            self._begin(slots)
        return True

    def _differs(self, slots: Slots) -> bool:
        """Whether the record has changed. Raises `StorageError` if that cannot be told now."""
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
        series: str = "",
    ) -> F:
        """Forecast as `Forecaster.forecast` does, and count the result for a trial's health window.

        A forecast of one context is kept until its targets have arrived, if `observe` is given the samples of its
        signal (``use`` or the settings say which, ``series`` which feed of it).

        A context that cannot be forecast from, one that the adapter is not for, or a machine without memory, is no
        fault of the adapter and is not counted. A trial that fails its window ends at once: the next forecast is the
        safer adapter's. Raises what keeps everything from coming up, when what ran was taken back and not even the
        base alone opens.
        """
        # A change that is being written, or a disk that cannot be read, is handled at the next forecast.
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
            if self.runs_own and fault_of(error) in (Fault.SENDER, Fault.SETTINGS):
                self._take_back_own(str(error))  # what was learnt never keeps a forecast from being made
                return self.forecast(context, prediction_length, quantile_levels, use=use, series=series)
            if fault_of(error) is Fault.SENDER:
                self._judge(ok=False, latency=self._clock() - began, reason=str(error))
            raise
        said = use or self._config.use
        if said.signal is not None and self._learns(said.signal):
            forecast = self._adapting.moved(forecast, series=series)
        latency = self._clock() - began
        self._watch.remember(forecast, context, use or self._config.use, series=series)
        self._judge(ok=True, latency=latency)
        return forecast

    def observe(
        self, signal: str, t_ms: int, value: float, *, series: str = "", interval_ms: int | None = None
    ) -> None:
        """Take one measured value at ``t_ms`` milliseconds by the feed's clock: forecasts of its step are scored by it.

        Call it for each sample, before the forecast that the sample gives rise to. A value that is not finite counts as
        missing; late and repeated ones are taken as `device_runtime.forecast.stream` takes them. ``series`` tells
        feeds of one signal apart; ``interval_ms`` is the time between steps, the settings' own where it is left out.
        Raises `InputError` where neither says it.
        """
        self._watch.observe(signal, t_ms, value, interval_ms=interval_ms, series=series)
        self._look_at_scores()
        span = self._config.use.interval_us
        if self._learns(signal) and span and interval_ms in (None, span / 1_000):
            self._adapting.observe(t_ms, value, interval_ms=span // 1_000, series=series)

    def end_stay(self, signal: str, *, series: str = "") -> None:
        """Note that a patient has left, or that the feed's clock was set: no forecast waits for later samples."""
        self._watch.end_stay(signal, series=series)
        self._look_at_scores()
        if self._learns(signal):
            self._adapting.end_stay(series=series)

    def _learns(self, signal: str) -> bool:
        """Whether a signal is the one that this monitor learns."""
        own = self._config.signal
        return bool(own) and one_name(signal) == one_name(own)

    @property
    def learns(self) -> bool:
        """Whether settings and envelope let this monitor learn."""
        return self._adapting.allowed.may.learn

    @property
    def runs_own(self) -> bool:
        """Whether what was learnt here forecasts now."""
        return self.started.entry is not None and self.started.entry == self._own

    def idle(self, waits: Callable[[], bool] = lambda: False) -> bool:
        """Learn from finished stays, while nothing else is to do; return whether more is left.

        ``waits`` is asked between two pieces of work, each of a few milliseconds, whether somebody wants a forecast.
        Settings bound the time in each minute. What was proven is promoted here, and taken back where the evidence
        turns, as far as settings and envelope allow: making its blob, once, takes as long as some thirty openings.
        """
        more = self._adapting.idle(waits)
        if self._adapting.lost and self.runs_own:
            self._take_back_own(self._adapting.lost)
        proposal = self._adapting.proposal
        if proposal is not Proposal.NONE and self.started.state is not State.TRIAL and not waits():
            self._act(proposal)
            more = True
        self._say_learning()
        return more

    def _act(self, proposal: Proposal) -> None:
        """Do what the evidence asks for."""
        facts = self._adapting.facts()
        try:
            if proposal is Proposal.DEMOTE:
                why = self._adapting.reason
                self._adapting.demoted_by_evidence()
                self._take_back_own(why, learnt=facts)
                return
            made = self._adapting.make(self._generation + 1)
            digest = hashlib.sha256(made.blob).hexdigest()
            entry = Entry(file=digest, adapter=digest, version=made.version, sequence=self._generation + 1)
            with self._slots() as slots:
                if not self._differs(slots):
                    reason = f"better over {facts['stays_judged']} stays, evidence {facts['evidence']:g}"
                    over = self._adapting.parent
                    slots.promote(made.blob, entry, over=over, reason=reason, who="device", learnt=facts)
                self._begin(slots)
        except (DeviceRuntimeError, OSError, MemoryError) as error:
            self._adapting.fail(f"nothing was promoted: {type(error).__name__}: {error}")

    def _take_back_own(self, reason: str, **facts: object) -> None:
        """Let the parent of an own adapter run again; if the disk refuses, or is locked, for this start only."""
        slots, unlocked = self._open_slots(), ""
        with contextlib.ExitStack() as stack:
            try:
                slots = stack.enter_context(self._slots())
                if slots.record.own is not None:
                    slots.demote(reason, who="device", **facts)
            except StorageError as error:
                unlocked = str(error)
            if unlocked:
                slots.unlocked = slots.unlocked or unlocked
                self._begin(slots, failed=reason)
            else:
                self._begin(slots)

    def quality(self) -> dict[str, Any]:
        """Return how good forecasts were: for each signal what each forecaster scored (docs/guides/field-quality.md).

        ``"signals"``: name → forecasters, the one that was scored last first; ``"left_out"``: samples of more signals
        or series than are watched; ``"problem"``: why figures are missing, empty where nothing is.
        """
        return self._watch.figures()

    def close(self) -> None:
        """Write what was scored and learnt. A host that is not closed loses at most ``save_seconds`` of scores."""
        self._watch.save()
        self._adapting.save()

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
        rules = self._config.health
        field = self._watch.judge(self.started.running.adapter_digest, rules.min_scored)
        health = self._window.health(self._clock(), field)
        if health is Health.WAIT:
            return
        with contextlib.suppress(StorageError), self._slots() as slots:  # what cannot be written waits for the next one
            if self._differs(slots):
                self._begin(slots)  # somebody else decided
            elif health is Health.PASSED:
                slots.confirm(self._window.passed(field), who="device")
                self._window, self._generation = None, slots.record.generation
                self.started = replace(self.started, state=State.CONFIRMED)
                self._look_beside(slots)
                self._say()
                self._report()
            else:
                self._begin(slots, failed=f"health window: {self._window.reason}")

    def _begin(self, slots: Slots, *, failed: str = "", keep: Started[Forecasting[F]] | None = None) -> None:
        """Open what the record names, with a new window if it is on trial; ``failed``: see `start`."""
        before, now = slots.record.generation, self._clock()
        self._check_own(slots)
        open_own = self._adapting.open_own if self._adapting.opens_own else None
        try:
            self.started = start(slots, self._open, ring=self._config.ring, failed=failed, keep=keep, open_own=open_own)
        except (DeviceRuntimeError, OSError, MemoryError) as error:
            # What ran may have been taken back, so it does not go on; the next forecast tries again.
            self._generation = -1
            self._down = (
                error
                if isinstance(error, DeviceRuntimeError)
                else StorageError(f"nothing opens: {type(error).__name__}: {error}")
            )
            raise self._down from error
        self._down = None
        self._generation = -1 if slots.unreadable else slots.record.generation
        self._wait = min(2 * self._wait, LAST_RETRY) if keep is not None else FIRST_RETRY
        self._retry_at, self._probe_at = now + self._wait, now + PROBE_EVERY
        on_trial = self.started.state is State.TRIAL
        self._window = HealthWindow(self._config.health, at=now) if on_trial else None
        self._look_beside(slots)
        self._learn_on(slots)
        self._say()
        self._say_learning()
        if slots.record.generation != before:
            self._report()

    def _check_own(self, slots: Slots) -> None:
        """Take back what was learnt where settings and envelope do not allow it any more."""
        self._adapting.look()
        if slots.record.own is not None and (why := self._adapting.forbids_own):
            with contextlib.suppress(StorageError):  # `start` is not given what opens it
                slots.demote(why, who="device")

    def _learn_on(self, slots: Slots) -> None:
        """Let the learner start from the installed adapter, and tell it which promoted model runs instead."""
        current, own = slots.record.current, slots.record.own
        self._own = own
        self._adapting.begin(
            current.adapter if current else "",
            lambda: self._open_slots().load(current) if current else None,
            own.adapter if own else "",
            lambda: self._open_slots().load(own) if own else b"",
        )

    def _say_learning(self) -> None:
        """Leave word of what keeps it from learning, where that has changed."""
        said = (self._adapting.allowed.mode, self._adapting.allowed.why, self._adapting.problem)
        if said != self._said:
            self._said = said
            note = Learning(mode=said[0], why=said[1], problem=said[2], at=round(time.time(), 3))
            leave(self._config.state, LEARNING, note)

    def _look_beside(self, slots: Slots) -> None:
        """Let the frozen base forecast beside an adapter, and during a trial also the previous one."""
        adapter, before = self.started.running.adapter_digest, slots.record.current
        on_trial = self.started.state is State.TRIAL and before is not None
        self._watch.beside(
            base=None if adapter is None else lambda: self._open(None),
            previous=(lambda: self._open(self._open_slots().load(before))) if on_trial and before else None,
        )
        self._watch.save()  # the figures of what ran until now

    def _look_at_scores(self) -> None:
        """Log the drift flags that have risen, and write the figures where it is time."""
        risen = self._watch.unlogged_drift()
        if risen:
            with contextlib.suppress(StorageError), self._slots() as slots:  # else with the next score
                if not self._differs(slots):  # what somebody else changed is taken over by the next forecast
                    for (adapter, _), why in risen.items():
                        slots.note_drift(adapter, why)
                    self._generation = slots.record.generation
                    self._watch.logged(risen)
                    self._say()
                    self._report()
        self._watch.save_when_due()

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
        """Call the reporter, since the record has changed."""
        if self._changed is not None:
            self._changed()

    def _slots(self, *, wait: float = 0.0) -> AbstractContextManager[Slots]:
        """Open the device's state, locked; without a lock, as on a read-only disk, it is only read."""
        return locked_slots(self._config, wait=wait)

    def _open_slots(self) -> Slots:
        """Read the device's record."""
        return slots_of(self._config)
