"""The host's learner: takes finished stays, works while idle, promotes and demotes. It never delays a forecast.

A fault of learning, of its file or of its graph never affects forecasts: `problem` reports it, and it is tried again
an hour later. It learns on top of the installed adapter or the base; if that changes, learning starts afresh.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic

import numpy as np

from device_runtime.adapt.bets import Proposal
from device_runtime.adapt.envelope import Envelope
from device_runtime.adapt.learner import Learner
from device_runtime.adapt.modes import Mode, State
from device_runtime.errors import DeviceRuntimeError, FormatError, StorageError
from device_runtime.update import envelope_store
from device_runtime.update.adapt_facts import Losses, facts_of
from device_runtime.update.adapt_mode import Allowed, allowed
from device_runtime.update.disk import PosixDisk
from device_runtime.update.following import Following
from device_runtime.update.learner_store import LearnerStore, Subject
from device_runtime.update.settings import DeviceConfig
from device_runtime.update.stays import Feeds
from device_runtime.update.watch import F, Forecasting
from device_runtime.update.workshop import Made, Workshop

RETRY = 3_600.0  # seconds until what did not open, or failed, is tried again
MINUTE = 60.0
LOGGED = 64  # of the learner's last steps that are kept for people
LEARNT, OWN, FACTS, STEPS, LOSSES = "learnt", "own", "facts", "steps", "losses"  # parts of the learner's file


class Adapting(Generic[F]):
    """Learns beside a host."""

    def __init__(
        self,
        config: DeviceConfig,
        workshop: Workshop[Forecasting[F]] | None,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``clock`` counts seconds and never goes back, ``wall`` is since 1970."""
        self._config, self._workshop, self._clock, self._wall = config, workshop, clock, wall
        self._disk = PosixDisk(config.state)
        self.envelope: Envelope | None = None
        self.allowed = Allowed(config.adapt.mode, config.adapt)
        self.unread = False  # there is an envelope, but this machine cannot use it now
        self.problem = ""  # why it does not learn as it is set to
        self._parent: tuple[str, bytes | None] | None = None  # what it learns on: digest, signed file
        self._own: tuple[str, Callable[[], bytes]] | None = None  # the own adapter: digest, how its blob is read
        self.lost = ""  # why nothing could show any more that what runs harms; empty where it could
        self._learner: Learner | None = None
        self._store: LearnerStore | None = None
        self.following: Following | None = None  # None: forecasts are left as they are
        self._newest: dict[str, int] = {}  # series -> ms of its newest sample
        self.feeds = Feeds(gap_steps=config.adapt.gap_steps)
        self._losses = Losses()
        self._steps: deque[dict[str, Any]] = deque(maxlen=LOGGED)
        self._retry_at, self._minute, self._spent = 0.0, -1, 0.0
        self._dirty = False

    # --- what is allowed -----------------------------------------------------------------------------------------

    def look(self) -> Allowed:
        """Read the envelope, and say how far learning may go now."""
        before = self.allowed.rules
        self.envelope, why, self.unread = envelope_store.read(self._disk, self._config)
        self.allowed = allowed(self._config.adapt, self.envelope, why)
        if self.following is None or self.allowed.rules != before or not self.allowed.may.track:
            self._follow()
        if self._learner is not None and self.allowed.rules != before:
            self._keep()
            self._learner = None  # opened again with the rules that hold now
        return self.allowed

    def _follow(self) -> None:
        """Follow each stream by what is allowed now, from the beginning."""
        self.following = None
        span = self._config.use.interval_us
        if self.allowed.may.track and self.envelope is not None and span:
            following = Following(
                self.allowed.rules, interval_ms=span // 1_000, late_steps=self._config.quality.late_steps
            )
            self.following = following if following.moves else None

    @property
    def opens_own(self) -> bool:
        """Whether what was learnt may forecast here."""
        return self._workshop is not None and self.envelope is not None and self.allowed.may.promote

    def open_own(self, own: bytes, parent: bytes | None) -> Forecasting[F]:
        """Open what was learnt, as far as that is allowed: `start`'s opener."""
        assert self._workshop is not None
        assert self.envelope is not None
        return self._workshop.open_own(own, parent, self.envelope)

    @property
    def forbids_own(self) -> str:
        """Why what was learnt may not forecast here, if that is certain; empty if it may, or if it is not known."""
        if self.allowed.may.promote and (self.envelope is not None or self.unread):
            return ""
        return (
            ""
            if self.unread and self._config.adapt.mode is Mode.ACTIVE
            else (self.allowed.why or f"the mode is {self.allowed.mode}")
        )

    def begin(self, parent: str, load: Callable[[], bytes | None], own: str, load_own: Callable[[], bytes]) -> None:
        """Learn on what is installed, and under what was promoted over it: digests (empty: none), how they are read."""
        self._own, self.lost = (own, load_own) if own else None, ""
        if not self.allowed.may.learn or self._workshop is None:
            self._parent = self._learner = None
            return
        if self._parent is None or self._parent[0] != parent:
            try:
                data = load()
            except DeviceRuntimeError as error:
                self._parent = None
                self._fail(f"what is learnt on cannot be read: {error}")
                return
            self._parent, self._learner, self._store, self._retry_at = (parent, data), None, None, 0.0
        if self._store is not None and self._store.changed():
            self._forget()  # somebody else wrote: it was reset
        if self._learner is not None:
            self._agree(self._learner)

    def _forget(self) -> None:
        """Give up what is held in memory: what was learnt, and what was measured."""
        self._learner, self._store = None, None
        self.feeds.forget()
        self._steps.clear()
        self._losses.begin()

    def _agree(self, learner: Learner) -> None:
        """Tell the learner which model runs: promotions and demotions since the last call."""
        if self._own is None:
            if learner.promoted is not None:
                self._demoted(learner)
            return
        assert self._workshop is not None
        if self._parent is None or self.envelope is None:
            return
        shift = self._workshop.shift(self._own[1](), self._parent[1], self.envelope)
        if learner.promoted is not None and np.array_equal(learner.promoted, shift):
            return
        if learner.state is State.GATHERING:
            self.lost = "what was learnt is lost: nothing could show any more that it harms"
            return
        learner.promote(shift)
        self._losses.begin()
        self._dirty = True
        self._keep(now=True)

    # --- what happens --------------------------------------------------------------------------------------------

    def observe(self, t_ms: int, value: float, *, interval_ms: int, series: str) -> None:
        """Take a sample of the signal that is learnt."""
        if self.following is not None:
            self.following.observe(t_ms, value, series=series)
            self._newest[series] = max(t_ms, self._newest.get(series, t_ms))
        if self._parent is not None:
            self.feeds.observe(t_ms, value, interval_ms=interval_ms, series=series)

    def end_stay(self, *, series: str) -> None:
        """The stay of a series is over: it may be learnt from, and nothing is followed across its end."""
        self._newest.pop(series, None)
        if self.following is not None:
            self.following.end_stay(series=series)
        self.feeds.end_stay(series=series)

    def moved(self, forecast: F, *, series: str) -> F:
        """Return a forecast of one context as this stream's experience moves it."""
        t_ms = self._newest.get(series)
        if self.following is None or t_ms is None or forecast.quantiles.ndim != 2:
            return forecast
        found = self.following.move(forecast.quantiles, forecast.quantile_levels, t_ms, series=series)
        if found is None:
            return forecast
        facts = {"quantiles": found.quantiles, "tracked": found.updates, "width_factor": found.width}
        return replace(forecast, **facts)  # type: ignore[type-var]  # every forecast is a dataclass

    # --- learning ------------------------------------------------------------------------------------------------

    def idle(self, waits: Callable[[], bool]) -> bool:
        """Learn until ``waits`` says somebody does, or the minute's share is spent; return whether more is left."""
        if self._parent is None or self._clock() < self._retry_at:
            return False
        if not self._config.adapt.may_learn(dt.datetime.fromtimestamp(self._wall()).astimezone())[0]:
            return False
        if (minute := int(self._clock() // MINUTE)) != self._minute:
            self._minute, self._spent = minute, 0.0
        try:
            while not waits():
                if 1_000.0 * self._spent >= self._config.adapt.ms_per_minute:
                    return True
                began = self._clock()
                more = self._piece()
                self._spent += self._clock() - began
                if not more:
                    self._keep()
                    return False
        except (DeviceRuntimeError, OSError, MemoryError) as error:
            self._fail(f"learning: {type(error).__name__}: {error}")
            return False
        return True

    def _piece(self) -> bool:
        """Do one piece of work; return whether there was one."""
        learner = self._learner
        if learner is None:
            if not self.feeds.waiting and self._store is not None:
                return False  # nothing to open it for
            self._learner = self._opened()
            return True
        if learner.proposal is not Proposal.NONE and self._may_act(learner.proposal):
            return False  # the host acts on it before more is learnt
        if learner.busy:
            learner.step()
            self._log(learner)
            if learner.proposal is Proposal.DEMOTE and self._own is None:  # nothing to take back but the candidate
                learner.demote()
                self._losses.begin()
            return True
        stay = self.feeds.next()
        if stay is not None:
            learner.finish(stay)
            self._dirty = True  # its counts, where nothing else comes of it
        return stay is not None

    def _log(self, learner: Learner) -> None:
        """Take the learner's new steps."""
        for entry in learner.drain():
            self._losses.add(entry, counts=learner.bets.better.units > 0)
            self._steps.append(entry.to_value())
        self._dirty = True

    def _opened(self) -> Learner:
        """Open what learns, and go on with what it knew."""
        assert self._workshop is not None
        assert self._parent is not None
        digest, data = self._parent
        rules, workshop = self.allowed.rules, self._workshop
        tensors = self.envelope.tensors if self.envelope is not None else None
        learner = workshop.learner(data, rules, tensors)
        self._store = LearnerStore(
            self._disk,
            subject=Subject(
                base=workshop.base, learning=workshop.learning, parent=digest,
                signal=self._config.signal, interval=self._config.interval,
            ),
            most=1_024 * self._config.adapt.kib_per_day,
            clock=self._wall,
        )  # fmt: skip
        body, self.problem = self._store.load()
        if body is not None:
            try:
                self._losses.restore(body.get(LOSSES))
                learner.restore(body.get(LEARNT))
            except FormatError as error:
                self.problem = f"what was learnt cannot be used, learning starts afresh from the frozen model: {error}"
                learner = workshop.learner(data, rules, tensors)
                self._losses.begin()
        if rules.keep_windows != "disk" and learner.reservoir.held:
            learner.forget_windows()  # of the time when they were kept on the disk
        self._learner = learner
        self._agree(learner)
        return learner

    # --- what comes of it ----------------------------------------------------------------------------------------

    @property
    def proposal(self) -> Proposal:
        """What the evidence asks for, as far as this monitor may do that by itself."""
        found = self._learner.proposal if self._learner is not None else Proposal.NONE
        return found if self._may_act(found) else Proposal.NONE

    @property
    def reason(self) -> str:
        """Why the promoted model should be demoted; the reason is not kept over a restart."""
        return (self._learner.reason if self._learner is not None else "") or "the learner had asked for it"

    def _may_act(self, proposal: Proposal) -> bool:
        """Whether the device itself may do what the evidence asks for."""
        if proposal is Proposal.DEMOTE:
            return self._own is not None
        return proposal is Proposal.PROMOTE and self.opens_own and self.allowed.rules.promote == "device"

    def make(self, generation: int) -> Made:
        """Make a proven blob of the candidate. Raises `DeviceRuntimeError`."""
        assert self._workshop is not None
        assert self._parent is not None
        assert self._learner is not None
        assert self.envelope is not None
        return self._workshop.make(self._parent[1], self._learner.shift, generation=generation, envelope=self.envelope)

    @property
    def parent(self) -> str | None:
        """SHA-256 of the adapter that it learns on, hex; None: the base."""
        return self._parent[0] or None if self._parent is not None else None

    def _demoted(self, learner: Learner, *, by_evidence: bool = False) -> None:
        """Note that the frozen model forecasts again; earlier evidence no longer counts."""
        if learner.state is not State.GATHERING:
            learner.demote(by_evidence=by_evidence)
        self._losses.begin()
        self._dirty = True
        self._keep(now=True)

    def demoted_by_evidence(self) -> None:
        """The promoted model was shown to be worse than the frozen one, and was demoted."""
        assert self._learner is not None
        self._demoted(self._learner, by_evidence=True)

    def fail(self, why: str) -> None:
        """Describe what prevents learning or promoting; forecasts continue."""
        self._keep()
        self._fail(why)

    def facts(self) -> dict[str, Any]:
        """Return what is known, for people on this monitor and for the log."""
        return {} if self._learner is None else {
            **facts_of(self._learner), **self._losses.facts(), "missed": self.feeds.left_out,
        }  # fmt: skip

    def save(self) -> None:
        """Write what was learnt, if anything was."""
        self._keep()

    def _keep(self, *, now: bool = False) -> None:
        """Write what was learnt, as far as the day's bytes go; a disk that refuses is said, and tried again later."""
        if self._store is None or self._learner is None or not self._dirty:
            return
        body = {
            LEARNT: self._learner.to_value(),
            OWN: self._own[0] if self._own else "",
            FACTS: self.facts(),
            STEPS: list(self._steps),
            LOSSES: list(self._losses.sums),
        }
        try:
            written = self._store.save(body, now=now)
        except StorageError as error:
            self.problem = f"what was learnt cannot be written: {error}"
            return
        self._dirty = not written
        self.problem = "" if written else "the bytes of this day are spent: what was learnt is written tomorrow"

    def _fail(self, why: str) -> None:
        """Give the learner up until later."""
        self.problem, self._learner, self._retry_at = why, None, self._clock() + RETRY
