"""Evaluation: an adapter beside its frozen base and simple baselines, with intervals over patients, and the gate.

No torch here: forecasts come in as arrays, or from functions that return them.
"""

from edge_tsfm.evaluation.evaluate import Predict, evaluate, evaluate_forecasts
from edge_tsfm.evaluation.gate import GateResult, apply_gate
from edge_tsfm.evaluation.report import Difference, Estimate, Group, Report

__all__ = [
    "Difference",
    "Estimate",
    "GateResult",
    "Group",
    "Predict",
    "Report",
    "apply_gate",
    "evaluate",
    "evaluate_forecasts",
]
