"""Figures as files: one SVG for each picture of a page, and PNG for slides."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class Layered:
    """A chart in SVGs of one size, to be laid one upon the other; places are in pixels from the left, as ``width``."""

    ground: bytes  # axes, names, legend, and what belongs to no series
    series: Mapping[str, bytes]
    width: float
    plot: tuple[float, float]  # where the axes begin and end
    places: tuple[float, ...]  # of what was asked for


def layered(draw: Draw, names: Sequence[str], at: Sequence[float], *, size: tuple[float, float] = SIZE) -> Layered:
    """Draw a chart whose series can be hidden: those artists whose ``gid`` is in ``names``, each name in its own SVG.

    ``at`` are values on the axis across whose places are wanted.
    """
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    draw(axis)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what is hidden below must move nothing
    series = {name: [one for one in axis.get_children() if one.get_gid() == name] for name in names}
    places = [axis.transData.transform((x, 0.0))[0] for x in at]
    plot, width = axis.bbox, figure.bbox.width
    for artists in series.values():
        for one in artists:
            one.set_visible(False)
    ground = to_svg(figure)
    for one in axis.get_children():
        one.set_visible(False)
    axis.set_axis_off()
    written = {}
    for name, artists in series.items():
        for one in artists:
            one.set_visible(True)
        written[name] = to_svg(figure)
        for one in artists:
            one.set_visible(False)
    return Layered(ground=ground, series=written, width=width, plot=(plot.x0, plot.x1), places=tuple(places))


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
