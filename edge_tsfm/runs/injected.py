"""Faults injected into a ward's history: what the monitor then sees, and what its forecasts are scored on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.data.series import Series

FloatArray = NDArray[np.float32]

KPA = 0.133322  # of a mmHg: another unit, within the range of some signals
COARSE = 5.0  # what a rounding sensor rounds to, in the signal's unit
PIECE = 10  # steps that an artefact lasts
STEPS_PER_PIECE = 60  # one piece in so many steps


def _other_unit(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    other: FloatArray = (values * np.float32(KPA)).astype(np.float32)
    return other


def _rounded(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    coarse: FloatArray = (np.rint(values / COARSE) * COARSE).astype(np.float32)
    return coarse


def _doubled(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Double pieces of a stay, as a counter that counts twice does; at least one."""
    out = values.copy()
    for start in rng.integers(0, max(1, len(out) - PIECE), max(1, len(out) // STEPS_PER_PIECE)):
        out[start : start + PIECE] *= 2
    return out


def _hung(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Repeat one value for half of the stay, as a sensor that hangs."""
    out, begin = values.copy(), int(rng.integers(1, max(2, len(values) // 2)))
    seen = np.flatnonzero(~np.isnan(out[:begin]))
    if len(seen):
        out[begin : begin + len(out) // 2] = out[seen[-1]]
    return out


def _drifting(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Let a stay rise by a third of its level, step by step: within the range, without a jump, and a lie."""
    level = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
    out: FloatArray = (values + np.linspace(0.0, level / 3, len(values))).astype(np.float32)
    return out


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong, in which stays, and what forecasts are then scored on."""

    spoil: Callable[[FloatArray, np.random.Generator], FloatArray]
    share: float = 1.0  # of the stays
    changes: bool = False  # it is what the signal is from then on: scored on it; else on the values without it
    first: bool = False  # until the middle of the history, not from there on: what was learnt from it meets none

    def begins(self, middle: int) -> int:
        """The first stay that has it."""
        return 0 if self.first else middle

    def strikes(self, number: int, middle: int, rng: np.random.Generator) -> bool:
        """Whether it strikes a stay."""
        return (number < middle) == self.first and bool(rng.random() < self.share)


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "unit": Fault(spoil=_other_unit, changes=True),
        "rounding": Fault(spoil=_rounded, changes=True),
        "artefacts in 30 %": Fault(spoil=_doubled, share=0.3),
        "artefacts in 100 %": Fault(spoil=_doubled),
        "hung sensor": Fault(spoil=_hung),
        "hostile drift": Fault(spoil=_drifting),
        "hostile drift at first": Fault(spoil=_drifting, first=True),
        "hostile drift at first, in 20 %": Fault(spoil=_drifting, share=0.2, first=True),
    }
)


def injected(stays: Sequence[Series], name: str, *, middle: int, seed: int) -> tuple[list[Series], list[FloatArray]]:
    """Return stays as they are scored, and the values that the monitor sees: with the fault on one side of a stay."""
    fault, rng = FAULTS[name], np.random.default_rng(seed)
    scored, seen = [], []
    for number, one in enumerate(stays):
        struck = fault.strikes(number, middle, rng)
        values = fault.spoil(one.target, rng) if struck else one.target
        scored.append(replace(one, target=values) if struck and fault.changes else one)
        seen.append(values)
    return scored, seen
