"""From overlapping forecasts to units on which one can bet one after another, for each series.

Forecasts of one stay overlap and depend on one another. A *block* covers `BLOCK` horizons of one stay and has the
forecasts that lie wholly within it, so no target is in two blocks, and a block's difference is known before the next
block's first target arrives. With *stay* as the unit, a block ends only at the end of the stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BLOCK = 2  # horizons


@dataclass(frozen=True)
class Losses:
    """Summed losses of one unit: of what ran, and of what it is compared with."""

    own: float
    other: float


@dataclass
class OpenUnit:
    """The unit that is being filled."""

    whole_stay: bool
    end: float = -math.inf  # the last step that is still in it
    own: float = 0.0
    other: float = 0.0
    of: tuple[str | None, str | None] = (None, None)  # the two adapters that it compares

    def add(self, origin: int, steps: int, own: float, other: float) -> Losses | None:
        """Take a forecast of ``steps`` behind ``origin``, in order; return the unit before it, where that is over."""
        closed = None
        if origin >= self.end:
            closed = self.close()
            self.end = math.inf if self.whole_stay else origin + BLOCK * steps
        if origin + steps <= self.end:
            self.own += own
            self.other += other
        return closed

    def close(self) -> Losses | None:
        """End the unit; return it, unless nothing was lost in it."""
        closed = Losses(self.own, self.other)
        self.end, self.own, self.other = -math.inf, 0.0, 0.0
        return closed if closed.own + closed.other > 0 else None
