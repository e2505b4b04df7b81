"""Faults injected into a ward's history: what the monitor then sees, and what its forecasts are scored on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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


# Name -> what it does to a stay, in which share of the stays, and whether it is what the signal is from then on: a
# change is scored on the changed values, an artefact on those without it.
FAULTS: Mapping[str, tuple[Callable[[FloatArray, np.random.Generator], FloatArray], float, bool]] = MappingProxyType(
    {
        "unit": (_other_unit, 1.0, True),
        "rounding": (_rounded, 1.0, True),
        "artefacts in 30 %": (_doubled, 0.3, False),
        "artefacts in 100 %": (_doubled, 1.0, False),
    }
)


def injected(stays: Sequence[Series], name: str, *, begin: int, seed: int) -> tuple[list[Series], list[FloatArray]]:
    """Return stays as they are scored, and the values that the monitor sees: from stay ``begin`` on with the fault."""
    fault, share, changes = FAULTS[name]
    rng = np.random.default_rng(seed)
    scored, seen = [], []
    for number, one in enumerate(stays):
        struck = number >= begin and rng.random() < share
        values = fault(one.target, rng) if struck else one.target
        scored.append(replace(one, target=values) if struck and changes else one)
        seen.append(values)
    return scored, seen
