"""Figures as files: one SVG for each picture of a page, and PNG for slides."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Draw = Callable[[Axes], None]
SIZE = (5.2, 3.4)  # inches


def svg(draw: Draw, *, size: tuple[float, float] = SIZE) -> bytes:
    """Draw one picture on a transparent background."""
    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    return to_svg(figure)


def to_svg(figure: Figure) -> bytes:
    """Write a figure as SVG."""
    written = io.BytesIO()
    # Text is written as text, and the same picture always gives the same bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "edge-tsfm"}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return written.getvalue()


def png(figure: Figure) -> bytes:
    """Write a figure as PNG."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110, metadata={"Software": None})
    return written.getvalue()


def png_grid(draws: Sequence[Draw], *, columns: int, size: tuple[float, float], title: str) -> bytes:
    """Draw a grid of pictures under a ``title``, each of ``size`` inches; return PNG bytes."""
    columns = min(columns, len(draws))
    rows = -(-len(draws) // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, draw in zip(axes, draws, strict=False):
        draw(axis)
    for axis in axes[len(draws) :]:
        axis.remove()
    figure.suptitle(title, fontsize=9, parse_math=False)
    return png(figure)
