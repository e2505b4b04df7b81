"""Figures on what a monitor learnt: against the same forecaster frozen, by age, and which patients became worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.evaluation.bootstrap import patient_sums
from edge_tsfm.evaluation.evaluate import paired
from edge_tsfm.evaluation.metrics import METRICS
from edge_tsfm.evaluation.report import Estimate

FloatArray = NDArray[np.float64]

FROZEN = "frozen"
AGES = (0, 5, 10, 25, 50, 100, 160, 320, 640, 1_280)  # stays seen
WORSE = (2.0, 10.0)  # percent


@dataclass(frozen=True, kw_only=True)
class Line:
    """One forecaster over some windows, and against the frozen one."""

    name: str
    patients: int
    windows: int
    wql: float
    coverage: float  # of the 80 % band
    width: float
    wql_percent: Estimate  # against frozen
    mse_percent: Estimate
    cover_error: float  # mean over patients of |coverage - 0.8|
    worse: dict[str, float]  # percent -> share of patients whose WQL is higher than frozen's by more
    # The same if every patient's change were higher by as much as the mean gain: what is left is the spread between
    # patients that any forecaster so far from the frozen one has, even one that gains nothing.
    worse_by_spread: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Wards:
    """Simulated wards, and how many promoted."""

    wards: int
    stays: int  # in each ward's life
    promoted: int
    between: tuple[float, float]  # 95 % interval of their share

    @property
    def share(self) -> float:
        """Of wards that promoted."""
        return self.promoted / self.wards


@dataclass(frozen=True, kw_only=True)
class Stationary(_Wards):
    """Simulated wards in which the candidate is never better: how many would have promoted it."""

    spread: float  # standard deviation of the relative paired difference, as measured
    limit: float  # what the rule promises


@dataclass(frozen=True, kw_only=True)
class Simulated(_Wards):
    """Simulated wards whose differences are those that were measured: how many would have promoted."""

    median: float | None  # stays until they promoted, of those that did


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What learning costs one bed that is never empty, with stays as long as the history's."""

    stays: float  # a day
    cpu_ms: float  # processor time a day, of scoring, learning and encoding what is written
    written: float  # bytes a day that the learner's file asks for: the monitor's kib_per_day holds back the rest
    file: int  # bytes of one write
    held: int  # bytes of windows, shift and optimiser in memory
    peak_mib: float | None  # of a process that does nothing else; None where the system does not tell


@dataclass(frozen=True, kw_only=True)
class WardChanges:
    """What the monitor of one ward would have done."""

    seed: int
    ward: int
    stays: int
    steps: int
    refused: int
    cleaned: Mapping[str, int]  # values that were looked at, and left out
    changes: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Injected:
    """One fault, on one side of the middle of each ward's history; figures are of the second half."""

    name: str
    behind: tuple[Line, ...]  # frozen, running and candidate, over the second half
    late: tuple[Line, ...]  # over the last quarter
    promoted: int  # wards that promoted behind the fault's beginning
    taken_back: int  # wards that took back
    wards: int


@dataclass(kw_only=True)
class AdaptEval:
    """Everything that was found. ``overall`` is prequential; ``held_out`` is of wards that were not learnt from."""

    signal: str
    unit: str
    mode: str
    rules: dict[str, Any]
    lengths: dict[str, int]
    seeds: int
    overall: list[Line]
    ages: dict[str, list[Line]] = field(default_factory=dict)
    held_out: dict[str, list[Line]] = field(default_factory=dict)
    wards: list[WardChanges] = field(default_factory=list)
    stationary: Stationary | None = None
    resampled: Simulated | None = None
    cost: Cost | None = None
    faults: list[Injected] = field(default_factory=list)
    step_ms: float = 0.0  # processor time of a step of learning, or of a tracked forecast
    stay_ms: float = 0.0  # of a stay

    def to_value(self) -> dict[str, Any]:
        """Return JSON-ready values; what is undefined is null."""
        return {key: _plain(value) for key, value in vars(self).items()}


def lines(
    scores: Mapping[str, FloatArray], drawn: NDArray[np.str_], *, frozen: str = FROZEN, seed: int, resamples: int = 1000
) -> list[Line]:
    """Compare forecasters' scores ``[N, M, 2]`` (`edge_tsfm.evaluation.metrics.score_windows`) with the frozen one's.

    ``drawn`` ``[N]`` names each window's patient: intervals are 95 % bootstrap over patients, paired.
    """
    names = list(scores)
    sums = patient_sums(np.stack([scores[name] for name in names], axis=1), drawn)  # [P, K, M, 2]
    sums = sums[sums[:, 0, _at("coverage"), 1] > 0]  # patients with a scored value
    place = names.index(frozen)
    out = []
    for k, name in enumerate(names):
        of, _, relative = paired(sums[:, [k, place]], seed=seed, resamples=resamples, confidence=0.95)

        def percent(metric: str, relative: FloatArray = relative) -> Estimate:
            value, low, high = 100 * relative[:, 1, _at(metric)]
            return Estimate(value=float(value), low=float(low), high=float(high))

        own, other = (sums[:, one, _at("wql"), 0] for one in (k, place))
        rise = 100 * (own / np.where(other > 0, other, np.nan) - 1)
        gain = percent("wql").value
        cover = sums[:, k, _at("coverage")]
        out.append(
            Line(
                name=name,
                patients=len(sums),
                windows=len(drawn),
                wql=float(of[0, 0, _at("wql")]),
                coverage=float(of[0, 0, _at("coverage")]),
                width=float(of[0, 0, _at("width")]),
                wql_percent=percent("wql"),
                worse_by_spread={f"{limit:g}": float(np.mean(rise - gain > limit)) for limit in WORSE if len(sums)},
                mse_percent=percent("mse"),
                cover_error=float(np.mean(np.abs(cover[:, 0] / cover[:, 1] - 0.8))) if len(sums) else float("nan"),
                worse={f"{limit:g}": float(np.mean(rise > limit)) for limit in WORSE} if len(sums) else {},
            )
        )
    return out


def by_age(
    scores: Mapping[str, FloatArray],
    drawn: NDArray[np.str_],
    age: NDArray[np.int64],
    *,
    frozen: str = FROZEN,
    seed: int,
    resamples: int = 1000,
) -> dict[str, list[Line]]:
    """Compare at each age: ``age`` ``[N]`` is how many stays had been seen when a window was forecast."""
    out = {}
    for low, high in zip(AGES, (*AGES[1:], None), strict=True):
        rows = (age >= low) & (age < high if high is not None else True)
        if rows.any():
            label = f"{low} to {high - 1}" if high is not None else f"{low} or more"
            some = {name: one[rows] for name, one in scores.items()}
            out[label] = lines(some, drawn[rows], frozen=frozen, seed=seed, resamples=resamples)
    return out


def _at(metric: str) -> int:
    return list(METRICS).index(metric)


def _plain(value: Any) -> Any:
    """Return JSON-ready values of dataclasses and containers, numbers that are none as null."""
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        more = {"share": value.share} if isinstance(value, _Wards) else {}
        return _plain({**vars(value), **more})
    return value
