"""`Learner`: finished stays in; a candidate, evidence on it, and a log out. Pure: no clock, no disk, no ONNX Runtime.

Work is divided into single steps (`Learner.step`), so that a forecast never waits for more than one. A stay is first
scored with the frozen model, the running one and the candidate, and then learnt from. The same stays, rules and seed
give the same bits on the same processor, which the log's digests show.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.bets import Bets, Losses, Proposal
from device_runtime.adapt.clean import Counts, clean, counts_of
from device_runtime.adapt.draws import Draws
from device_runtime.adapt.learnable import Learnable
from device_runtime.adapt.modes import Event, State, step
from device_runtime.adapt.optimiser import Optimiser
from device_runtime.adapt.packed import pack, unpack
from device_runtime.adapt.rules import AdaptRules
from device_runtime.adapt.windows import Reservoir, clip_targets, cut
from device_runtime.errors import ForecastError, FormatError
from device_runtime.quality.scores import pinball

FloatArray = NDArray[np.float32]

VERSION = 3  # 1: a bound of differences that never moved; 2: one that moved by fixed factors
DAY_MS = 86_400_000
MAX_WAITING = 8  # stays that wait to be scored and learnt from; the oldest is dropped first
MAX_STAY = 8_192  # latest steps of a stay that are used
SPOILT = 0.5  # share of a stay's values out of range or jumping; above it the stay is neither learnt from nor scored
SPOILT_STAYS = 3  # so many of them in a row: the promoted model no longer fits the input
WORSE = "it was shown to be worse than what it stands on"
NOT_FINITE = "it forecasts numbers that are not finite"
NO_READINGS = f"{SPOILT_STAYS} stays in a row are no readings of the signal by more than half"
NUMBERS = ("generation", "stays", "numbered", "left_out", "refused", "spoilt", "in_a_row")
MAX_LOG = 4_096  # entries that wait for `drain`
SCORED_PER_FORECAST = 3  # windows that begin within one forecast and are scored


@dataclass(frozen=True, kw_only=True, eq=False)
class Stay:
    """One finished stay, or a finished recording. It does not identify the patient."""

    values: FloatArray  # [T], every interval, NaN where nothing was measured, in the signal's unit
    end_ms: int  # when it ended, by the feed's clock


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one step did: enough to check that a replay did the same."""

    number: int  # of the step, from 1
    stay: int  # from 1
    what: str  # "scored" or "learnt"; "refused": a number was not finite
    windows: int
    losses: tuple[float, ...]  # scored: of frozen, running, candidate; learnt: the batch's loss, the gradient's norm
    evidence: float | None = None  # scored: logarithm of the evidence for a promotion
    digest: str  # of the shift and Adam's state after the step

    def to_value(self) -> dict[str, Any]:
        """Encode as plain values; a loss that is not finite, which JSON does not have, is None."""
        return asdict(self) | {"losses": [loss if math.isfinite(loss) else None for loss in self.losses]}


@dataclass
class _Task:
    """The stay that is being processed."""

    end_ms: int
    scored: tuple[FloatArray, FloatArray]  # windows, evenly spread over the stay
    fresh: tuple[FloatArray, FloatArray]  # windows to learn from, drawn
    at: int = 0  # windows that were scored
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    learnt: int = 0  # steps taken
    judged: bool = False


class Learner:
    """The learner of one signal. ``shift`` is the candidate's, ``promoted`` that of the promoted model, if any."""

    def __init__(
        self,
        rules: AdaptRules,
        learnable: Learnable,
        levels: Sequence[float],
        *,
        interval_ms: int,
        context_length: int,
        steps: int,
        plausible: tuple[float, float] | None = None,
        min_observed: int = 12,
    ) -> None:
        """Learn to forecast ``steps`` from ``context_length`` at quantile ``levels``.

        Values outside of ``plausible`` are no readings.
        """
        self.rules, self.learnable = rules.at(interval_ms, steps), learnable
        self.context_length = min(context_length, learnable.context_length)
        self.levels = np.array(levels, dtype=np.float64)
        self.horizon, self.plausible = min(steps, learnable.prediction_length), plausible
        self.min_observed = min(min_observed, self.context_length)
        self.state, self.proposal = State.GATHERING, Proposal.NONE
        self.reason = ""  # why the promoted model should be demoted, if that is proposed
        self.optimiser = Optimiser(self.rules, learnable.sizes)
        self.reservoir = Reservoir(self.rules.windows, self.context_length, self.horizon)
        self.bets, self.draws, self.counts = Bets(self.rules), Draws(self.rules.seed), Counts()
        self.promoted: FloatArray | None = None
        self.generation = self.stays = self.numbered = self.left_out = self.refused = 0
        self.spoilt = self.in_a_row = 0  # stays whose values are mostly implausible; the latest consecutive ones
        self.log: deque[Entry] = deque(maxlen=MAX_LOG)
        self._waiting: deque[_Task] = deque()

    # --- what happens --------------------------------------------------------------------------------------------

    def finish(self, stay: Stay) -> bool:
        """Take a finished stay; return whether it holds anything to learn from."""
        values, counts = clean(stay.values[-MAX_STAY:], self.rules.clean, self.plausible)
        self.counts.add(counts)
        if self._guard(counts):
            return False
        lengths = {"context_length": self.context_length, "prediction_length": self.horizon}
        # Windows of one stay may overlap: the stay is one observation in the evidence however many windows are summed,
        # and more windows make it more precise.
        between = max(1, self.horizon // SCORED_PER_FORECAST)
        scored = cut(values, **lengths, stride=between, min_observed=self.min_observed)
        contexts, targets = cut(values, **lengths, stride=self.rules.stride, min_observed=self.min_observed)
        if not len(scored[0]) or not len(contexts):
            return False
        spread = np.unique(np.linspace(0, len(scored[0]) - 1, self.rules.scored_windows).astype(np.intp))
        wanted = max(self.rules.new_windows * self.rules.steps, self.rules.kept_windows)
        drawn = self.draws.sample(len(contexts), wanted)
        fresh = contexts[drawn], clip_targets(contexts[drawn], targets[drawn], self.rules.clip_spreads)
        self._waiting.append(_Task(stay.end_ms, (scored[0][spread], scored[1][spread]), fresh))
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.left_out += 1
        return True

    @property
    def busy(self) -> bool:
        """Return whether `step` has something to do."""
        return bool(self._waiting)

    def step(self) -> Entry | None:
        """Do one piece of work, at most one batch of windows; return None if there is none."""
        if not self._waiting:
            return None
        task = self._waiting[0]
        if not task.judged:
            return self._score(task)
        return self._learn(task)

    def work(self) -> Proposal:
        """Do all outstanding work; return what the evidence proposes."""
        while self.busy:
            self.step()
        return self.proposal

    # --- what a host says ----------------------------------------------------------------------------------------

    def promote(self, shift: FloatArray) -> None:
        """Note that a blob made from the candidate forecasts now; ``shift`` is the rounded one in that blob.

        Raises `StateError` while there is no candidate.
        """
        self.state = step(self.state, Event.PROMOTE)
        self.promoted, self.proposal = shift.astype(np.float32), Proposal.NONE
        self.generation += 1
        self.bets.begin()

    def demote(self, *, by_evidence: bool = False) -> None:
        """Note that the installed model forecasts again; the candidate starts afresh, windows are kept.

        Raises `StateError` while nothing was learnt.
        """
        self.state = step(self.state, Event.DEMOTE)
        self.promoted, self.proposal = None, Proposal.NONE
        self.optimiser = Optimiser(self.rules, self.learnable.sizes)
        self.bets.begin()
        self.bets.demotions += by_evidence

    def reset(self) -> None:
        """Forget everything that was learnt, and every window."""
        self.state, self.proposal, self.promoted = step(self.state, Event.RESET), Proposal.NONE, None
        self.optimiser, self.bets = Optimiser(self.rules, self.learnable.sizes), Bets(self.rules)
        self.reservoir.wipe()
        self.counts, self.stays, self.spoilt, self.in_a_row = Counts(), 0, 0, 0
        self._waiting.clear()

    def forget_windows(self) -> None:
        """Delete every window, which holds patients' values, also those of waiting stays."""
        self.reservoir.wipe()
        self._waiting.clear()

    @property
    def shift(self) -> FloatArray:
        """The candidate ``[n]``: ``blend`` of the moving average of the iterates."""
        return np.float32(self.rules.blend) * self.optimiser.mean

    def drain(self) -> list[Entry]:
        """Return the log's new entries and forget them."""
        out = list(self.log)
        self.log.clear()
        return out

    def _guard(self, counts: Counts) -> bool:
        """Return whether a stay's values are mostly implausible; several such stays in a row propose a demotion."""
        if not counts.values:
            return False
        bad = counts.out_of_range + counts.jumps > SPOILT * counts.values
        self.in_a_row = self.in_a_row + 1 if bad else 0
        self.spoilt += bad
        if self.in_a_row >= SPOILT_STAYS and self.promoted is not None:
            self._take_back(NO_READINGS)
        return bad

    def _take_back(self, reason: str) -> None:
        """Propose to demote the promoted model."""
        self.proposal, self.reason = Proposal.DEMOTE, reason

    # --- the work ------------------------------------------------------------------------------------------------

    def _score(self, task: _Task) -> Entry:
        """Score a batch of the stay's windows with all three models; after the last batch, bet on the stay."""
        rows = slice(task.at, task.at + self.rules.batch)
        contexts, targets = (part[rows] for part in task.scored)
        nothing = np.zeros(sum(self.learnable.sizes), dtype=np.float32)
        running = nothing if self.promoted is None else self.promoted
        shifts = (nothing, running, self.shift if self.optimiser.steps else running)
        done: list[tuple[FloatArray, float]] = []
        for place, shift in enumerate(shifts):
            same = [found for before, found in done if before is shift]
            found = same[0] if same else self._loss(contexts, targets, shift)
            done.append((shift, found))
            task.sums[place] += found
        task.at += len(contexts)
        if task.at < len(task.scored[0]):
            return self._entry("scored", len(contexts), [found for _, found in done], stay=self.stays + 1)
        task.judged = True
        self.stays += 1
        self._judge(Losses(frozen=task.sums[0], running=task.sums[1], candidate=task.sums[2]))
        return self._entry("scored", len(contexts), [found for _, found in done], evidence=self.bets.better.log)

    def _judge(self, losses: Losses) -> None:
        """Take a stay's losses; a model with a loss that is not finite is dropped without any evidence."""
        if not np.isfinite(losses.frozen):  # the installed model fails on it as well: the stay shows nothing
            self.refused += 1
        elif not np.isfinite([losses.running, losses.candidate]).all():
            self.refused += 1
            self._take_back(NOT_FINITE)
        elif self.optimiser.steps:
            found = self.bets.add(losses, promoted=self.promoted is not None)
            self.proposal, self.reason = found, WORSE if found is Proposal.DEMOTE else ""

    def _loss(self, contexts: FloatArray, targets: FloatArray, shift: FloatArray) -> float:
        """Return the summed loss of forecasts of windows at a shift, in the signal's unit; NaN if a forecast fails."""
        try:
            forecast = self.learnable.forecast(contexts, self.horizon, shift)
        except ForecastError:  # not finite
            return math.nan
        quantiles = np.sort(forecast, axis=-1).astype(np.float64)
        with np.errstate(invalid="ignore"):
            lost = 2 * pinball(quantiles, targets.astype(np.float64), self.levels).mean(-1)  # [B, H]
        return float(lost[~np.isnan(targets)].sum())

    def _learn(self, task: _Task) -> Entry:
        """Take one step on new windows and kept ones; after the stay's last step, keep some of its windows."""
        new = slice(task.learnt * self.rules.new_windows, (task.learnt + 1) * self.rules.new_windows)
        contexts, targets = (part[new] for part in task.fresh)
        task.learnt += 1
        # A short stay has too few windows for every step; a learner that holds too few takes none.
        begun = self.reservoir.seen + len(task.fresh[0][: self.rules.kept_windows]) >= self.rules.first_windows
        more = self.reservoir.draw(self.rules.batch - len(contexts), self.draws) if begun else None
        if more is not None and len(contexts) + len(more[0]):
            both = [np.concatenate([ours, kept]) for ours, kept in zip((contexts, targets), more, strict=True)]
            value, norm = self._descend(both[0], both[1], task.end_ms // DAY_MS)
            self.refused += norm is None
            said = ("refused", [0.0, 0.0]) if norm is None else ("learnt", [value, norm])
            if norm is not None and self.state is State.GATHERING:
                self.state = step(self.state, Event.FIRST_STEP)
            entry = self._entry(said[0], len(both[0]), said[1])
        else:
            task.learnt = self.rules.steps
            entry = self._entry("learnt", 0, [0.0, 0.0])
        if task.learnt >= self.rules.steps:
            kept = slice(self.rules.kept_windows)
            self.reservoir.add(task.fresh[0][kept], task.fresh[1][kept], self.draws)
            self._waiting.popleft()
        return entry

    def _descend(self, contexts: FloatArray, targets: FloatArray, day: int) -> tuple[float, float | None]:
        """Take one step; return the batch's loss and the gradient's norm, or None if they are not finite."""
        try:
            value, gradient = self.learnable.gradients(contexts, targets, self.optimiser.iterate)
        except ForecastError:
            return math.nan, None
        return float(value), self.optimiser.step(gradient, day) if math.isfinite(value) else None

    def _entry(
        self, what: str, windows: int, losses: list[float], evidence: float | None = None, stay: int | None = None
    ) -> Entry:
        """Add an entry for a step to the log."""
        self.numbered += 1
        entry = Entry(
            number=self.numbered,
            stay=self.stays if stay is None else stay,
            what=what,
            windows=windows,
            losses=tuple(losses),
            evidence=evidence,
            digest=self.optimiser.digest,
        )
        self.log.append(entry)
        return entry

    # --- what is written down ------------------------------------------------------------------------------------

    def to_value(self) -> dict[str, Any]:
        """Encode as plain values: stays that wait are left out, and windows unless ``keep_windows`` is "disk"."""
        return {
            "version": VERSION,
            "names": list(self.learnable.names),
            "sizes": list(self.learnable.sizes),
            "state": self.state.value,
            "verdict": self.proposal.value,
            **{name: getattr(self, name) for name in NUMBERS},
            "draws": [self.draws.seed, self.draws.drawn],
            "counts": self.counts.to_value(),
            "optimiser": self.optimiser.to_value(),
            "judge": self.bets.to_value(),
            "promoted": None if self.promoted is None else pack(self.promoted),
            "windows": self.reservoir.to_value(whole=self.rules.keep_windows == "disk"),
        }

    def restore(self, value: Any) -> None:
        """Restore what `to_value` wrote. Raises `FormatError` for anything else; then nothing is changed."""
        try:
            held = self._held(value)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise FormatError(f"learner: not what this monitor wrote: {error!r}") from error
        vars(self).update(held)
        self._waiting.clear()
        self.log.clear()

    def _held(self, value: Any) -> dict[str, Any]:
        """Decode every part into a new object: name of the attribute → value."""
        if value["version"] != VERSION:
            raise FormatError(f"learner: version {value['version']!r}, this release reads {VERSION}")
        if (value["names"], value["sizes"]) != (list(self.learnable.names), list(self.learnable.sizes)):
            raise FormatError("learner: other tensors than this base's learning graph moves")
        whole = {name: value[name] for name in NUMBERS}
        seed, drawn = value["draws"]
        if any(type(one) is not int or not 0 <= one < 2**63 for one in (*whole.values(), seed, drawn)):
            raise FormatError(f"learner: {whole}, draws {value['draws']}: want whole numbers of at least 0")
        state, packed = State(value["state"]), value["promoted"]
        optimiser = Optimiser(self.rules, self.learnable.sizes)
        optimiser.restore(value["optimiser"])
        bets = Bets(self.rules)
        bets.restore(value["judge"])
        reservoir = Reservoir(self.rules.windows, self.context_length, self.horizon)
        reservoir.restore(value["windows"])
        if (packed is not None) != (state is State.PROMOTED):
            raise FormatError(f"learner: state {state} {'with' if packed else 'without'} a promoted shift")
        if (state is State.GATHERING) != (optimiser.steps == 0):
            raise FormatError(f"learner: state {state} after {optimiser.steps} steps")
        return {
            **whole,
            "state": state,
            "proposal": Proposal(value["verdict"]),
            "draws": Draws(seed, drawn),
            "counts": counts_of(value["counts"]),
            "optimiser": optimiser,
            "bets": bets,
            "promoted": None if packed is None else unpack(packed, self.shift.shape, "promoted"),
            "reservoir": reservoir,
        }


def first_difference(log: Sequence[Entry], again: Sequence[Entry]) -> int | None:
    """Return the index of the first entry that differs in a replay; None if both logs are the same."""
    for place, (one, other) in enumerate(zip(log, again, strict=False)):
        if one != other:
            return place
    return None if len(log) == len(again) else min(len(log), len(again))
