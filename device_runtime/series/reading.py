"""One signal of a table: series on a regular clock, and everything that was decided in reading them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from device_runtime.series.clean import Cleaned
from device_runtime.series.grid import Grid, Ordered
from device_runtime.series.identity import Parts
from device_runtime.series.layouts import Layout
from device_runtime.series.numerals import Numerals
from device_runtime.series.signals import Signal
from device_runtime.series.target import Target
from device_runtime.series.times import Clock, Times


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """One uninterrupted stretch of one item: a value each interval, NaN where nothing was measured."""

    item_id: str
    part: int  # of `Parts`
    segment: int  # counts the stretches of an item
    start_us: int  # since 1970 (UTC), or since step 0
    values: NDArray[np.float32]  # [T]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What a table says of one signal, and all that was decided and changed to know it."""

    layout: Layout
    target: Target
    clock: Clock
    every_us: int  # the interval; `STEP_US` a step if its length is not stated
    parts: Parts
    times: Times
    kept: NDArray[np.int64]  # [R], which rows of the table speak of this signal
    cleaned: Cleaned
    converted: int
    in_error: int  # rows that a flag called wrong: missing
    left_out: int  # rows that meet not every condition
    rows: Ordered
    grid: Grid
    bounds: tuple[float, float] | None
    numerals: Numerals
    notes: tuple[str, ...]

    @property
    def signal(self) -> Signal | None:
        """The vital sign; None for another domain's signal."""
        return self.target.signal

    @property
    def unit(self) -> str | None:
        """The unit of the values; None where the signal is not in the table of signals."""
        return None if self.target.signal is None else self.target.signal.unit

    @property
    def interval_us(self) -> int | None:
        """The time between steps; None where the table counts steps of unknown length."""
        return None if self.clock == "count" else self.every_us

    def stretches(self) -> Iterator[Stretch]:
        """Return every stretch that holds a value, in the order of item, stay and time."""
        grid = self.grid
        observed = np.concatenate([[0], np.cumsum(~np.isnan(grid.value))])
        counts = observed[grid.begin[1:]] - observed[grid.begin[:-1]]
        item_id, segment = None, 0
        for s in np.flatnonzero(counts):
            own = self.parts.item_ids[grid.part[s]]
            segment = segment + 1 if own == item_id else 0
            item_id = own
            yield Stretch(
                item_id=own,
                part=int(grid.part[s]),
                segment=segment,
                start_us=int(grid.start_us[s]),
                values=grid.value[grid.begin[s] : grid.begin[s + 1]],
            )
