"""What would help a run that the gate refused, from its own figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edge_tsfm.evaluation.report import FEW_PATIENTS
from edge_tsfm.evaluation.sight import patients_for

ROSE = 1.002  # a last validation score this much above the best one has risen, not wavered
TOO_MANY = 1_000_000  # patients: a gain that would take more is none that anybody can show


def advice(record: Mapping[str, Any], curve: Sequence[tuple[int, float, float]]) -> list[str]:
    """Return what to try, for the ``record`` of a refused run and its validation ``curve`` (step, loss, score).

    The measured gain is itself uncertain, and so is what follows from it; only what the figures speak for is said.
    """
    gate = record["gate"]
    unit = str(gate.get("unit", "patient"))
    return [
        *_more_patients(gate, int(record["data"]["items"]), unit),
        *_training(record, curve),
        "another --target, or data at another --interval, may hold more to gain; edge-tsfm inspect lists the columns",
    ]


def _more_patients(gate: Mapping[str, Any], items: int, unit: str) -> list[str]:
    """Return how many patients would show the measured gain, or that more would not."""
    judged = int(gate["patients"])
    if judged < FEW_PATIENTS:  # whatever the gain
        times = FEW_PATIENTS / judged
        if unit == "block":
            return [f"series about {times:.1f} times as long, for the {FEW_PATIENTS} {unit}s that the gate needs"]
        return [f"about {_rounded(math.ceil(items * times)):,} {unit}s in all (now {items:,}), for the "
                f"{FEW_PATIENTS} that the gate needs"]  # fmt: skip
    difference, (low, high) = gate["difference"], gate["interval"]
    if difference is None or high is None:
        return []
    if difference >= 0:
        return [f"no gain was measured, and more {unit}s alone will not make one"]
    if low is None or high < 0:
        return []
    wanted = patients_for(-difference, high - difference, items)
    if wanted is None or wanted > TOO_MANY:
        return [f"a gain of {-100 * difference:.2f} % is too small to be shown with any number of {unit}s at hand"]
    shown = f"would show a gain of {-100 * difference:.1f} %, if it is real"
    if unit == "block":  # a split by time: the series' length is what intervals draw from
        return [f"series about {wanted / items:.1f} times as long {shown}"]
    return [f"about {_rounded(wanted):,} {unit}s in all (now {items:,}) {shown}; more to train on may raise it, too"]


def _training(record: Mapping[str, Any], curve: Sequence[tuple[int, float, float]]) -> list[str]:
    """Describe what the validation curve says of steps and learning rate."""
    training, config = record["training"], record["config"]
    best, last = int(training["best_step"]), curve[-1][2]
    factor = float(config["learning_rate_factor"])
    lower = f"--learning-rate {_digit(max(record['learning_rates']) / factor / 3)}"
    if "+" in config["method"]:  # each method of a combination has a rate of its own
        lower = f"learning_rate_factor = {_digit(factor / 3)} in a --config file"
    if best == 0:
        return [f"the validation score was never better than the frozen base's: try a lower rate, {lower}"]
    if last > ROSE * training["best"]:
        return [f"the validation score was best at step {best} and rose after it: try --steps {best}, or {lower}"]
    if best == config["steps"]:
        return [f"the validation score was still falling at the last step, {best}: try more --steps"]
    return []


def _digit(value: float) -> str:
    """Write a number with one digit that is not zero: 0.0333 as 0.03."""
    return f"{float(f'{value:.1g}'):g}"


def _rounded(count: int) -> int:
    """Round up to two digits: it is an estimate."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step
