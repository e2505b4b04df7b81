"""Remove and count the artefacts of a stay before anything is learnt from it or judged on it.

An artefact in all of a ward's records would be learnt, and the evidence, which is collected on the same records, would
support it (docs/results/adaptation.md). So implausible values are removed first, by rules that use no model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.adapt.rules import CleanRules
from device_runtime.errors import FormatError

FloatArray = NDArray[np.float32]


@dataclass(kw_only=True)
class Counts:
    """Values that were looked at, and how many left for which reason."""

    values: int = 0
    out_of_range: int = 0
    jumps: int = 0
    flat: int = 0

    def add(self, other: Counts) -> None:
        """Add another stay's."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def to_value(self) -> dict[str, int]:
        """Encode as plain values."""
        return asdict(self)


def counts_of(value: Any) -> Counts:
    """Decode counts. Raises `FormatError`."""
    names = {one.name for one in fields(Counts)}
    whole = isinstance(value, dict) and all(type(one) is int and one >= 0 for one in value.values())
    if not whole or set(value) != names:
        raise FormatError(f"counts: want {', '.join(sorted(names))} as whole numbers")
    return Counts(values=value["values"], out_of_range=value["out_of_range"], jumps=value["jumps"], flat=value["flat"])


def clean(values: FloatArray, rules: CleanRules, plausible: tuple[float, float] | None) -> tuple[FloatArray, Counts]:
    """Return a stay's values ``[T]`` with NaN for what is no reading, and counts.

    ``rules`` are those of an interval (`CleanRules.at`). In this order: values outside of ``plausible`` (ends
    included) or infinite; excursions, that jump away from the last good value and come back within ``jump_steps``;
    runs of more than ``flat_steps`` equal values.
    """
    x = values.astype(np.float32, copy=True)
    counts = Counts(values=int((~np.isnan(x)).sum()))
    low, high = plausible or (-np.inf, np.inf)
    outside = ~np.isnan(x) & ((x < low) | (x > high) | np.isinf(x))
    x[outside] = np.nan
    counts.out_of_range = int(outside.sum())
    seen = np.flatnonzero(~np.isnan(x))
    jumped = seen[_excursions(x[seen], seen, rules)] if len(seen) > 2 else seen[:0]
    x[jumped] = np.nan
    counts.jumps = len(jumped)
    seen = np.flatnonzero(~np.isnan(x))
    hung = seen[_flat(x[seen], rules.flat_steps)]
    x[hung] = np.nan
    counts.flat = len(hung)
    return x, counts


def _excursions(x: FloatArray, at: NDArray[np.intp], rules: CleanRules) -> NDArray[np.intp]:
    """Return places in observed values ``x`` ``[K]`` at steps ``at`` that left the last good value and came back."""
    change = np.abs(np.diff(x.astype(np.float64)))
    # A trimmed mean: many vital signs keep still for most steps, so a median change would be 0.
    typical = float(np.sort(change)[: max(1, int(0.95 * len(change)))].mean())
    limit = max(rules.jump_spreads * typical, rules.jump_share * abs(float(np.median(x))))
    gone: list[int] = []
    good, place = 0, 1
    while place < len(x):
        if abs(float(x[place]) - float(x[good])) <= limit:
            good, place = place, place + 1
            continue
        back = place + 1
        while (
            back < len(x) and at[back] - at[place] < rules.jump_steps and abs(float(x[back]) - float(x[good])) > limit
        ):
            back += 1
        came_back = back < len(x) and abs(float(x[back]) - float(x[good])) <= limit
        if came_back:
            gone += range(place, back)
            good, place = back, back + 1
        else:  # it stayed: the new level is a level
            good, place = place, place + 1
    return np.array(gone, dtype=np.intp)


def _flat(x: FloatArray, most: int) -> NDArray[np.intp]:
    """Return places of observed values ``x`` ``[K]`` in runs of more than ``most`` equal ones, but each run's first."""
    if not len(x):
        return np.empty(0, dtype=np.intp)
    starts = np.flatnonzero(np.r_[True, np.diff(x) != 0])
    lengths = np.diff(np.r_[starts, len(x)])
    runs = [
        np.arange(start + 1, start + length) for start, length in zip(starts, lengths, strict=True) if length > most
    ]
    return np.concatenate(runs) if runs else np.empty(0, dtype=np.intp)
