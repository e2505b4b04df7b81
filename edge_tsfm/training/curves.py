"""The picture of a run's losses."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_curve(curve: Sequence[tuple[int, float, float]], best_step: int) -> bytes:
    """Draw training and validation loss over steps, the frozen base as a line; PNG bytes."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [step for step, _, _ in curve]
    axes.plot(steps, [loss for _, loss, _ in curve], color="0.7", label="training")
    axes.plot(steps, [loss for _, _, loss in curve], color="C0", label="validation patients")
    axes.axhline(curve[0][2], color="0.4", linestyle=":", label="frozen base")
    axes.axvline(best_step, color="C0", linewidth=0.8, alpha=0.5)
    axes.set_xlabel("step")
    axes.set_ylabel("quantile loss (scaled)")
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
