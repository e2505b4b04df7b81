"""What is reported about a learner, to people and to the log: counts and scores, no measured value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from device_runtime.adapt.learner import Entry, Learner
from device_runtime.errors import FormatError

NAMES = ("frozen", "running", "candidate")


class Losses:
    """Summed losses of the stays that the evidence rests on: of what is frozen, of what ran and of the candidate."""

    def __init__(self) -> None:
        self.sums = [0.0, 0.0, 0.0]  # in the signal's unit
        self._stay = [0.0, 0.0, 0.0]  # of the stay that is being scored

    def add(self, entry: Entry, *, counts: bool) -> None:
        """Take a step of the learner's; behind a stay's last score, whether the stay ``counts``."""
        if entry.what != "scored":
            return
        self._stay = [held + new for held, new in zip(self._stay, entry.losses, strict=True)]
        if entry.evidence is not None:
            if counts and all(map(math.isfinite, self._stay)):  # of another stay nothing is evidence
                self.sums = [held + new for held, new in zip(self.sums, self._stay, strict=True)]
            self._stay = [0.0, 0.0, 0.0]

    def begin(self) -> None:
        """Reset the evidence."""
        self.sums = [0.0, 0.0, 0.0]

    def restore(self, value: Any) -> None:
        """Go on with ``sums``. Raises `FormatError` for what are none."""
        good = isinstance(value, list) and len(value) == len(NAMES)
        if not good or not all(type(one) in (int, float) and one >= 0 and math.isfinite(one) for one in value):
            raise FormatError("losses: want three sums")
        self.sums = [float(one) for one in value]

    def facts(self) -> dict[str, Any]:
        """Return the sums, and how much more than the frozen forecaster's they are, in percent."""
        frozen = self.sums[0]
        more = {
            f"{name}_percent": round(100 * (value / frozen - 1), 4) if frozen > 0 else None
            for name, value in zip(NAMES[1:], self.sums[1:], strict=True)
        }
        return {"loss": {name: float(f"{value:.6g}") for name, value in zip(NAMES, self.sums, strict=True)}, **more}


def facts_of(learner: Learner) -> dict[str, Any]:
    """Return counts and evidence as plain values."""
    bets = learner.bets
    return {
        "state": learner.state.value,
        "verdict": learner.proposal.value,
        "stays": learner.stays,
        "stays_judged": bets.better.units,
        "steps": learner.optimiser.steps,
        "windows": learner.reservoir.held,
        "evidence": evidence(bets.better.log),
        "evidence_wanted": bets.wanted,
        "reverse_evidence": evidence(bets.worse.log),
        "demotions": bets.demotions,
        "left_out": learner.left_out,
        "refused": learner.refused,
        "spoilt": learner.spoilt,
        "values": learner.counts.to_value(),
        "shift_rms": round(float(np.sqrt(np.mean(learner.shift.astype(np.float64) ** 2))), 9),
    }


def evidence(log: float) -> float:
    """Return evidence from its logarithm, four digits, and no infinity."""
    return float(f"{math.exp(min(log, 300.0)):.4g}")
