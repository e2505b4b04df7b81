"""What a monitor would have learnt from a ward's history, and whether forecasting with it would have been right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.learnable import Learnable
from device_runtime.adapt.modes import Mode
from device_runtime.adapt.rules import AdaptRules
from device_runtime.binder import bind
from device_runtime.documents import read_toml
from edge_tsfm.data.series import Series
from edge_tsfm.data.windows import Windows
from edge_tsfm.errors import ConfigError
from edge_tsfm.evaluation.adaptation import AGES, FROZEN, AdaptEval, Cost, Injected, Line, WardChanges, by_age, lines
from edge_tsfm.evaluation.baselines import baseline_quantiles
from edge_tsfm.evaluation.metrics import score_windows
from edge_tsfm.evaluation.online_mix import online_mix
from edge_tsfm.evaluation.stationary import false_promotions, resampled
from edge_tsfm.progress import Work
from edge_tsfm.runs.history import Lengths
from edge_tsfm.runs.injected import FAULTS, injected
from edge_tsfm.runs.passages import DAY_MS, Passage, follow, forecasts, learn, offline, tracked, wards_of

FloatArray = NDArray[np.float32]
Predict = Callable[[FloatArray], FloatArray]  # contexts [N, L] -> quantiles [N, H, Q]
Tell = Callable[[str], None]

RUNNING, CANDIDATE, TRACKED = "running", "candidate", "tracked"
OFFLINE, PERSISTENCE, ACI, LINEAR = "offline", "persistence", "aci", "linear"
ACI_RATE = 0.1


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a history is put through adaptation."""

    rules: AdaptRules
    lengths: Lengths
    levels: tuple[float, ...]
    plausible: tuple[float, float] | None
    ward: int | None = None  # stays in a ward; None: all in one
    wards: int | None = None  # at most so many; None: all
    seeds: int = 1
    every: int | None = None  # steps between two forecasts that are tracked; None: a forecast's length
    offline: bool = True
    faults: bool = False
    simulated: int = 2_000  # wards in which nothing is to be gained, and as many with the measured gain; 0: none
    simulated_stays: int = 1_000
    resamples: int = 1_000
    peak_mib: float | None = None  # of a process that only learns, as `edge_tsfm.runs.learning_peak` measured it


def read_rules(path: Path) -> AdaptRules:
    """Read the ``[adapt]`` table of a TOML file, as a monitor has it. Raises `ConfigError`."""
    values = read_toml(path, error=ConfigError)
    if "adapt" not in values:
        raise ConfigError(f"{path}: has no [adapt] table", hint="write [adapt] above its settings")
    return bind(AdaptRules, values["adapt"], str(path), error=ConfigError, at=("adapt",))


def adapt_eval(
    stays: Sequence[Series],
    learnable: Learnable,
    options: Options,
    *,
    beside: Mapping[str, Predict] | None = None,
    work: Work,
    tell: Tell = lambda _: None,
) -> AdaptEval:
    """Run the device's adaptation on stays, ward by ward and seed by seed.

    ``beside`` are further forecasters to compare with, such as the workstation's adapter. Raises `ConfigError` for a
    mode in which nothing happens, and `DataError` where there is nothing to score.
    """
    rules = options.rules
    if rules.mode is Mode.OFF:
        raise ConfigError("mode off: nothing would be learnt", hint="--mode shadow")
    gathered = _Gathered(options, beside or {})
    work.plan(wards=options.seeds * len(wards_of(stays, options.ward, 0)[: options.wards]))
    for seed in range(options.seeds):
        wards = wards_of(stays, options.ward, seed)[: options.wards]
        seeded = replace(rules, seed=seed)
        passages = []
        for number, ward in enumerate(wards):
            tell(f"seed {seed + 1} of {options.seeds}, ward {number + 1} of {len(wards)}")
            with work.timed("wards"):
                passages.append(_passage(ward, learnable, seeded, options))
                gathered.add(passages[-1], seed=seed, ward=number)
        if rules.mode is not Mode.BOUNDED:
            tell("other wards")
            _hold_out(gathered, wards, passages, learnable, seed)
            if options.faults:
                for name in FAULTS:
                    tell(f"fault: {name}")
                    gathered.strike(name, wards, passages, learnable, seeded, seed)
    return gathered.result(stays[0].signal)


def _passage(ward: Sequence[Series], learnable: Learnable, rules: AdaptRules, options: Options) -> Passage:
    """Run one ward in the given mode."""
    if rules.mode is Mode.BOUNDED:
        every = options.every or options.lengths.prediction_length
        return follow(ward, learnable, options.levels, rules, options.lengths, every=every)
    ages = [age for age in AGES[1:] if age <= len(ward)]
    return learn(ward, learnable, options.levels, rules, options.lengths, plausible=options.plausible, ages=ages)


def _hold_out(
    gathered: _Gathered, wards: Sequence[Sequence[Series]], passages: Sequence[Passage], learnable: Learnable, seed: int
) -> None:
    """Score what was learnt on each ward on the next ward, and compare it with offline training on the same stays."""
    if len(wards) < 2:
        return
    options = gathered.options
    for number, (ward, passage) in enumerate(zip(wards, passages, strict=True)):
        other = passages[(number + 1) % len(passages)]
        steps = options.lengths.prediction_length
        for age, shift in passage.shifts.items():
            last = age == len(ward)
            found = {FROZEN: other.frozen, CANDIDATE: forecasts(learnable, other.windows.context, steps, shift)}
            if last and options.offline:
                trained = offline(ward, learnable, options.lengths, seed=seed)
                found[OFFLINE] = forecasts(learnable, other.windows.context, steps, trained)
            if last:
                found |= gathered.compared(other)
            gathered.held("a whole ward" if last else f"{age} stays", found, other.windows)


class _Gathered:
    """Scores of all wards and seeds, as they come."""

    def __init__(self, options: Options, beside: Mapping[str, Predict]) -> None:
        self.options, self.beside = options, beside
        self.wards: list[WardChanges] = []
        self._scores: dict[str, list[NDArray[np.float64]]] = {}
        self._drawn: list[NDArray[np.str_]] = []
        self._age: list[NDArray[np.int64]] = []
        self._unit = "patient"
        self._held: dict[str, tuple[dict[str, list[NDArray[np.float64]]], list[NDArray[np.str_]]]] = {}
        self._struck: dict[str, list[tuple[Passage, int]]] = {}
        self._times: list[tuple[float, float]] = []
        self._sizes: list[tuple[int, int]] = []
        self._days: list[float] = []  # length of each stay
        self._differences: list[tuple[int, float]] = []
        self._beside: dict[int, dict[str, FloatArray]] = {}  # id of a passage's windows -> forecasts

    def compared(self, passage: Passage) -> dict[str, FloatArray]:
        """Forecast a passage's windows by everything that does not learn, once."""
        key = id(passage)
        if key not in self._beside:
            contexts = passage.windows.context
            self._beside[key] = {name: predict(contexts) for name, predict in self.beside.items()}
        return self._beside[key]

    def add(self, passage: Passage, *, seed: int, ward: int) -> None:
        """Take a ward's history."""
        options, windows = self.options, passage.windows
        bounded = options.rules.mode is Mode.BOUNDED
        found = {FROZEN: passage.frozen, (TRACKED if bounded else RUNNING): passage.running}
        if not bounded:
            found[CANDIDATE] = passage.candidate
        found |= self.compared(passage)
        found[PERSISTENCE] = baseline_quantiles(
            "persistence", windows.context, options.lengths.prediction_length, options.levels
        ).astype(np.float32)
        found[ACI] = tracked(windows, passage.frozen, options.levels, offset_rate=0.0, width_rate=ACI_RATE)
        found[LINEAR] = online_mix(windows, passage.frozen, options.levels)
        for name, quantiles in found.items():
            self._scores.setdefault(name, []).append(score_windows(quantiles, windows, options.levels))
        self._drawn.append(windows.drawn)
        self._age.append(windows.series)
        self._unit = windows.unit
        self._times.append((passage.step_ms, passage.stay_ms))
        self._sizes.append((passage.written, passage.held))
        self._days.append(passage.length * options.lengths.interval_ms / DAY_MS / passage.stays)
        self._differences += passage.differences
        changes = tuple(asdict(one) for one in passage.changes)
        self.wards.append(
            WardChanges(
                seed=seed,
                ward=ward,
                stays=passage.stays,
                steps=passage.steps,
                refused=passage.refused,
                cleaned=passage.cleaned,
                changes=changes,
            )
        )

    def held(self, label: str, found: Mapping[str, FloatArray], windows: Windows) -> None:
        """Take forecasts of a ward that was not learnt from."""
        scores, drawn = self._held.setdefault(label, ({}, []))
        for name, quantiles in found.items():
            scores.setdefault(name, []).append(score_windows(quantiles, windows, self.options.levels))
        drawn.append(windows.drawn)

    def strike(
        self,
        name: str,
        wards: Sequence[Sequence[Series]],
        passages: Sequence[Passage],
        learnable: Learnable,
        rules: AdaptRules,
        seed: int,
    ) -> None:
        """Run wards with a fault before or after their middle."""
        for ward in wards:
            middle = len(ward) // 2
            scored, seen = injected(ward, name, middle=middle, seed=seed)
            passage = learn(
                scored, learnable, self.options.levels, rules, self.options.lengths,
                plausible=self.options.plausible, taught=seen,
            )  # fmt: skip
            self._struck.setdefault(name, []).append((passage, middle))

    def _injected(self, name: str) -> Injected:
        """Compare the running model and the candidate over the second half of the history."""
        parts = self._struck[name]
        compared = []
        for share in (0.0, 0.5):
            scores: dict[str, list[NDArray[np.float64]]] = {}
            drawn = []
            for passage, middle in parts:
                first = middle + int(share * (passage.stays - middle))
                rows = passage.windows.series >= first
                windows = passage.windows.keep(rows)
                for key in (FROZEN, RUNNING, CANDIDATE):
                    quantiles = getattr(passage, key)
                    scores.setdefault(key, []).append(score_windows(quantiles[rows], windows, self.options.levels))
                drawn.append(windows.drawn)
            compared.append(tuple(self._lines(scores, drawn)))
        begins = FAULTS[name].begins
        behind = [[one.what for one in passage.changes if one.stay > begins(middle)] for passage, middle in parts]
        return Injected(
            name=name,
            behind=compared[0],
            late=compared[1],
            promoted=sum("promoted" in whats for whats in behind),
            taken_back=sum("taken back" in whats for whats in behind),
            wards=len(parts),
        )

    def _lines(
        self, scores: Mapping[str, Sequence[NDArray[np.float64]]], drawn: Sequence[NDArray[np.str_]]
    ) -> list[Line]:
        """Compare forecasters over all that was gathered."""
        joined = {name: np.concatenate(parts) for name, parts in scores.items()}
        return lines(joined, np.concatenate(drawn), frozen=FROZEN, seed=0, resamples=self.options.resamples)

    def _cost(self) -> Cost:
        """Add up what learning costs in a day of a bed that is never empty."""
        stays = 1 / float(np.mean(self._days))
        written, held = (max(sizes) for sizes in zip(*self._sizes, strict=True))
        return Cost(
            stays=stays,
            cpu_ms=stays * float(np.mean([stay for _, stay in self._times])),
            written=stays * written,
            file=written,
            held=held,
            peak_mib=self.options.peak_mib,
        )

    def result(self, signal: str) -> AdaptEval:
        """Turn it all into figures."""
        options = self.options
        joined = {name: np.concatenate(parts) for name, parts in self._scores.items()}
        drawn, age = np.concatenate(self._drawn), np.concatenate(self._age)
        learns = options.rules.mode is not Mode.BOUNDED
        aged = {name: one for name, one in joined.items() if name in (FROZEN, RUNNING, CANDIDATE)}
        stationary = again = None
        at = options.rules.at(options.lengths.interval_ms, options.lengths.prediction_length)
        if learns and options.simulated:
            drawn_by = {"wards": options.simulated, "seed": 0}
            stationary = false_promotions(at, self._differences, stays=options.simulated_stays, **drawn_by)
            longest = max(one.stays for one in self.wards)
            again = resampled(at, self._differences, stays=longest, **drawn_by)
        return AdaptEval(
            signal=signal,
            unit=self._unit,
            mode=options.rules.mode.value,
            rules=asdict(at) | {"mode": options.rules.mode.value},
            lengths=asdict(options.lengths),
            seeds=options.seeds,
            overall=self._lines(self._scores, self._drawn),
            ages=by_age(aged, drawn, age, frozen=FROZEN, seed=0, resamples=options.resamples) if learns else {},
            held_out={label: self._lines(scores, named) for label, (scores, named) in self._held.items()},
            wards=self.wards,
            stationary=stationary,
            resampled=again,
            cost=self._cost() if learns else None,
            faults=[self._injected(name) for name in self._struck],
            step_ms=float(np.mean([step for step, _ in self._times])),
            stay_ms=float(np.mean([stay for _, stay in self._times])),
        )
