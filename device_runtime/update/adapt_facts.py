"""What a learner says of itself to people and to the log: counts and scores, no measured value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from device_runtime.adapt.learner import Learner


def facts_of(learner: Learner) -> dict[str, Any]:
    """Return counts and evidence as plain values."""
    judge = learner.judge
    return {
        "state": learner.state.value,
        "verdict": learner.verdict.value,
        "stays": learner.stays,
        "stays_judged": judge.better.units,
        "steps": learner.optimiser.steps,
        "windows": learner.reservoir.held,
        "evidence": evidence(judge.better.log),
        "evidence_wanted": judge.wanted,
        "reverse_evidence": evidence(judge.worse.log),
        "demotions": judge.demotions,
        "left_out": learner.left_out,
        "refused": learner.refused,
        "values": learner.counts.to_value(),
        "shift_rms": round(float(np.sqrt(np.mean(learner.shift.astype(np.float64) ** 2))), 9),
    }


def evidence(log: float) -> float:
    """Return evidence from its logarithm, four digits, and no infinity."""
    return float(f"{math.exp(min(log, 300.0)):.4g}")
