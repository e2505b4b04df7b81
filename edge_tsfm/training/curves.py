"""A run's losses over its steps, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CURVE_FILE = "curves.csv"  # in a run's folder
Curve = Sequence[tuple[int, float, float]]  # step, training loss, validation score


def curve_csv(curve: Curve) -> bytes:
    """Write one line for each evaluation."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["step", "training_loss", "validation_score"])
    writer.writerows(curve)
    return buffer.getvalue().encode()


def draw_curve(curve: Curve, best_step: int, *, metric: str) -> bytes:
    """Draw the training loss above the validation score, the frozen base as a line; PNG bytes."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    steps = [step for step, _, _ in curve]
    above.plot(steps, [loss for _, loss, _ in curve], color="0.4", marker=".")
    above.set_ylabel("training loss (scaled)")
    below.plot(steps, [score for _, _, score in curve], color="C0", marker=".", label="validation")
    below.axhline(curve[0][2], color="0.4", linestyle=":", label="frozen base")
    below.axvline(best_step, color="C0", linewidth=0.8, alpha=0.5)
    below.set_xlabel("step")
    below.set_ylabel(metric)
    below.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
