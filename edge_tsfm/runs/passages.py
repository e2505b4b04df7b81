"""Run a ward's history through the device's own adaptation: what it would have learnt, promoted and demoted, and when.

Prequential: stays follow one another, and each is forecast with what was learnt from those before it, then scored, then
learnt from. Learner, rules and tracking are the monitor's (`device_runtime.adapt`); only the clock is the data's.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.bets import Proposal
from device_runtime.adapt.learnable import Learnable
from device_runtime.adapt.learner import Entry, Learner, Stay
from device_runtime.adapt.modes import MODES
from device_runtime.adapt.optimiser import Optimiser
from device_runtime.adapt.rules import AdaptRules
from device_runtime.adapt.tracking import Tracking
from device_runtime.update.adapting import LEARNT, LOGGED, STEPS
from device_runtime.update.learner_store import BLOCK
from device_runtime.update.sealed import seal
from edge_tsfm.data.series import Series
from edge_tsfm.data.windows import Windows, make_windows
from edge_tsfm.errors import DataError
from edge_tsfm.evaluation.online_mix import revealed
from edge_tsfm.runs.history import Lengths

FloatArray = NDArray[np.float32]
Tell = Callable[[str], None]

AT_ONCE = 256  # windows that are forecast together
DAY_MS = 86_400_000
OFFLINE_STEPS, OFFLINE_BATCH, OFFLINE_RATE = 300, 64, 0.01


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that the monitor would have done."""

    what: str  # "promoted" or "taken back"
    stay: int  # after so many
    evidence: float  # logarithm


@dataclass(kw_only=True)
class Passage:
    """One ward's history: forecasts ``[N, H, Q]`` of its windows, whose targets do not overlap."""

    windows: Windows
    stays: int
    frozen: FloatArray
    running: FloatArray  # with what was promoted, or tracked, by then
    candidate: FloatArray  # unseen: with what was learnt by then
    changes: list[Change] = field(default_factory=list)
    shifts: dict[int, FloatArray] = field(default_factory=dict)  # stays seen -> the candidate's
    length: int = 0  # intervals of all stays together
    steps: int = 0
    refused: int = 0
    step_ms: float = 0.0  # processor time of one step of learning
    stay_ms: float = 0.0  # of one stay: scored, learnt from, and encoded to be written
    written: int = 0  # bytes of the learner's file, as a monitor writes it after each stay
    held: int = 0  # bytes of windows, shift and optimiser in memory
    # Of each judged stay: stays judged before it, and the candidate's loss over frozen's, relative.
    differences: list[tuple[int, float]] = field(default_factory=list)
    cleaned: dict[str, int] = field(default_factory=dict)  # values that were looked at, and left out


def forecasts(learnable: Learnable, contexts: FloatArray, steps: int, shift: FloatArray | None = None) -> FloatArray:
    """Forecast contexts ``[N, L]`` at a shift (None: frozen): ascending quantiles ``[N, steps, Q]``."""
    given = np.zeros(sum(learnable.sizes), dtype=np.float32) if shift is None else shift
    parts = [learnable.forecast(contexts[at : at + AT_ONCE], steps, given) for at in range(0, len(contexts), AT_ONCE)]
    return np.sort(np.concatenate(parts), axis=-1).astype(np.float32)


def learn(
    stays: Sequence[Series],
    learnable: Learnable,
    levels: Sequence[float],
    rules: AdaptRules,
    lengths: Lengths,
    *,
    plausible: tuple[float, float] | None = None,
    ages: Sequence[int] = (),
    taught: Sequence[FloatArray] | None = None,
    tell: Tell = lambda _: None,
) -> Passage:
    """Run a learner on stays, one after another, a day apart; the candidate is kept after each of ``ages`` stays.

    ``taught`` are the values that the monitor sees of each stay, where they are not the stay's own: forecasts are
    scored on the stay's own. Raises `DataError` where no stay has a window.
    """
    windows = _windows(stays, lengths)
    mode = MODES[rules.mode]
    learner = Learner(
        rules,
        learnable,
        levels,
        interval_ms=lengths.interval_ms,
        context_length=lengths.context_length,
        steps=lengths.prediction_length,
        plausible=plausible,
        min_observed=lengths.min_observed,
    )
    frozen = forecasts(learnable, windows.context, lengths.prediction_length)
    out = Passage(windows=windows, stays=len(stays), frozen=frozen, running=frozen.copy(), candidate=frozen.copy())
    out.length = sum(len(one.target) for one in stays)
    ends = np.searchsorted(windows.series, np.arange(len(stays) + 1))
    clock = _Clock()
    for number, one in enumerate(stays):
        rows = slice(int(ends[number]), int(ends[number + 1]))
        if rows.stop > rows.start and learner.optimiser.steps:
            contexts = windows.context[rows]
            out.candidate[rows] = forecasts(learnable, contexts, lengths.prediction_length, learner.shift)
            if learner.promoted is not None:
                out.running[rows] = forecasts(learnable, contexts, lengths.prediction_length, learner.promoted)
        values = one.target if taught is None else taught[number]
        learner.finish(Stay(values=np.asarray(values, dtype=np.float32), end_ms=(number + 1) * DAY_MS))
        clock.work(learner)
        _decide(learner, out, number + 1, may=mode.promote)
        if number + 1 in ages:
            out.shifts[number + 1] = learner.shift.copy()
        tell(f"{number + 1:,} of {len(stays):,} stays")
    out.shifts[len(stays)] = learner.shift.copy()
    out.steps, out.refused = learner.optimiser.steps, learner.refused
    out.written, encoding = _encoded(learner, clock.latest)
    out.held = learner.reservoir.size + learner.optimiser.size
    out.step_ms, out.stay_ms = clock.per_step, clock.seconds * 1e3 / max(1, len(stays)) + encoding
    out.differences = clock.differences
    out.cleaned = learner.counts.to_value()
    return out


def _encoded(learner: Learner, steps: Iterable[Entry]) -> tuple[int, float]:
    """Encode a learner and its last steps as they are written: bytes, and milliseconds of processor time."""
    begun = time.process_time()
    size = len(seal({LEARNT: learner.to_value(), STEPS: [one.to_value() for one in steps]}))
    return -(-size // BLOCK) * BLOCK, 1e3 * (time.process_time() - begun)


@dataclass
class _Clock:
    """Processor time of a learner's work, and the paired differences that it logged."""

    seconds: float = 0.0
    learning: float = 0.0
    learnt: int = 0
    latest: deque[Entry] = field(default_factory=lambda: deque(maxlen=LOGGED))
    differences: list[tuple[int, float]] = field(default_factory=list)
    _sums: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def work(self, learner: Learner) -> None:
        """Do all the work there is."""
        while learner.busy:
            begun = time.process_time()
            entry = learner.step()
            spent = time.process_time() - begun
            self.seconds += spent
            assert entry is not None
            if entry.what == "learnt" and entry.windows:
                self.learning += spent
                self.learnt += 1
            self._note(entry)
        self.latest += learner.drain()

    def _note(self, entry: Entry) -> None:
        """Add up a stay's losses; after its last batch, store how the candidate compares."""
        if entry.what != "scored":
            return
        self._sums = [self._sums[0] + entry.losses[0], self._sums[1] + entry.losses[2]]
        if entry.evidence is not None:
            frozen, candidate = self._sums
            if candidate != frozen and math.isfinite(candidate - frozen):
                self.differences.append((entry.stay - 1, (candidate - frozen) / (candidate + frozen)))
            self._sums = [0.0, 0.0]

    @property
    def per_step(self) -> float:
        """Milliseconds of one step of learning."""
        return 1e3 * self.learning / max(1, self.learnt)


def _decide(learner: Learner, out: Passage, stay: int, *, may: bool) -> None:
    """Carry out the proposal if the mode allows it; record it once in any case."""
    if learner.proposal is Proposal.PROMOTE and (may or not out.changes):
        out.changes.append(
            Change(what="promoted" if may else "would promote", stay=stay, evidence=learner.bets.better.log)
        )
        if may:
            learner.promote(learner.shift)
    elif learner.proposal is Proposal.DEMOTE:
        out.changes.append(Change(what="taken back", stay=stay, evidence=learner.bets.worse.log))
        learner.demote(by_evidence=learner.refused == 0)


def follow(
    stays: Sequence[Series],
    learnable: Learnable,
    levels: Sequence[float],
    rules: AdaptRules,
    lengths: Lengths,
    *,
    every: int,
) -> Passage:
    """Track each patient's stream, with a forecast ``every`` so many steps; tracking restarts with a new patient.

    A forecast teaches once its last target is in.
    """
    windows = _windows(stays, lengths, stride=every)
    frozen = forecasts(learnable, windows.context, lengths.prediction_length)
    begun = time.process_time()
    running = tracked(
        windows,
        frozen,
        levels,
        offset_rate=rules.offset_rate if rules.long_stream else 0.0,
        width_rate=rules.width_rate,
        cap=rules.cap_tracking,
    )
    spent = (time.process_time() - begun) * 1e3 / max(1, len(windows))
    return Passage(
        windows=windows,
        stays=len(stays),
        frozen=frozen,
        running=running,
        candidate=frozen,
        step_ms=spent,
        stay_ms=spent,
    )


def tracked(
    windows: Windows,
    frozen: FloatArray,
    levels: Sequence[float],
    *,
    offset_rate: float,
    width_rate: float,
    cap: float = 0.5,
) -> FloatArray:
    """Move forecasts ``[N, H, Q]`` by the device's tracking: in order, for each person anew, none by its own target."""
    steps = windows.target.shape[1]
    tracking = Tracking(levels, steps, offset_rate=offset_rate, width_rate=width_rate, cap=cap)
    out, person = frozen.copy(), ""
    for row, came in revealed(windows):
        for old in came:
            tracking.learn(out[old], windows.target[old])
        if windows.item_id[row] != person:
            person = windows.item_id[row]
            tracking.reset()
        out[row] = tracking.apply(frozen[row])
    return out


def offline(
    stays: Sequence[Series], learnable: Learnable, lengths: Lengths, *, seed: int, stride: int | None = None
) -> FloatArray:
    """Train the same numbers on all of the stays' windows at once, as a workstation would: the shift ``[n]``.

    `OFFLINE_STEPS` steps of Adam on batches drawn from everything, the rate falling to 0: what learning in passing is
    measured against.
    """
    windows = _windows(stays, lengths, stride=stride or max(1, lengths.prediction_length // 2))
    rng = np.random.default_rng(seed)
    optimiser = Optimiser(AdaptRules(cap_tensor=1.0, cap_day=1.0, average=0.9), learnable.sizes)
    for number in range(OFFLINE_STEPS):
        rows = rng.integers(0, len(windows), OFFLINE_BATCH)
        _, gradient = learnable.gradients(windows.context[rows], windows.target[rows], optimiser.iterate)
        warm = min(1.0, (number + 1) / 20)
        rate = OFFLINE_RATE * warm * 0.5 * (1 + float(np.cos(np.pi * number / OFFLINE_STEPS)))
        optimiser.rules = replace(optimiser.rules, rate=rate)
        optimiser.step(gradient, 0)
    return optimiser.iterate


def wards_of(stays: Sequence[Series], size: int | None, seed: int) -> list[list[Series]]:
    """Put patients in an order drawn by the seed and cut them into wards of about ``size`` stays (None: one ward).

    All stays of a patient lie in one ward. A last ward of less than half the size joins the one before it.
    """
    patients: dict[str, list[Series]] = {}
    for one in stays:
        patients.setdefault(one.item_id, []).append(one)
    names = list(patients)
    wards: list[list[Series]] = [[]]
    for place in np.random.default_rng(seed).permutation(len(names)):
        if size is not None and len(wards[-1]) >= size:
            wards.append([])
        wards[-1] += patients[names[place]]
    if size is not None and len(wards) > 1 and len(wards[-1]) < size / 2:
        wards[-2:] = [wards[-2] + wards[-1]]
    return wards


def _windows(stays: Sequence[Series], lengths: Lengths, stride: int | None = None) -> Windows:
    """Cut stays as they are scored."""
    windows = make_windows(
        stays,
        context_length=lengths.context_length,
        prediction_length=lengths.prediction_length,
        stride=stride or lengths.prediction_length,
        min_observed=lengths.min_observed,
    )
    if not len(windows):
        raise DataError(
            f"nothing to learn from: no stay has {lengths.min_observed} observed values and "
            f"{lengths.prediction_length} steps behind them"
        )
    return windows
