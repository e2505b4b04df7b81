"""Numbers shipped against MSE gained: what one more number buys."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_tsfm.study.table import Group, Row


def pareto_plot(groups: Sequence[Group]) -> bytes:
    """Draw each method by its count and its MSE gain over the frozen base, with intervals; PNG bytes."""
    columns = min(2, max(1, len(groups)))
    rows = -(-max(1, len(groups)) // columns)
    figure = Figure(figsize=(6.4 * columns, 4.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, group in zip(axes, groups, strict=False):
        _draw(axis, group)
    for axis in axes[len(groups) :]:
        axis.remove()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    return picture.getvalue()


def front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other equals or beats with as few numbers, by rising count."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda one: (one.parameters or 0, one.figures["mse"].value)):
        if not best or row.figures["mse"].value < best[-1].figures["mse"].value:
            best.append(row)
    return best


def _draw(axis: Axes, group: Group) -> None:
    tuned = [row for row in group.rows if row.kind == "adapter" and row.parameters]
    for row in tuned:
        one = row.change["mse"]
        colour = "#d55e00" if row.method == "full" else "#0072b2"
        gain = [-100 * x for x in (one.value, one.high, one.low)]
        count = float(row.parameters or 0)
        axis.plot([count] * 2, gain[1:], color=colour, linewidth=2, alpha=0.35)
        axis.plot([count], [gain[0]], color=colour, marker="o", markersize=5)
        axis.annotate(row.label, (count, gain[0]), xytext=(5, 4), textcoords="offset points", fontsize=7)
    edge = front(tuned)
    axis.plot(
        [float(row.parameters or 0) for row in edge],
        [-100 * row.change["mse"].value for row in edge],
        color="#999999",
        zorder=0,
    )
    axis.axhline(0, color="#999999", linewidth=0.8, linestyle=":")
    axis.set_xscale("log")
    axis.set_xlabel("numbers shipped")
    axis.set_ylabel("MSE below the frozen base's [%]")
    axis.set_title(f"{group.target}, {group.base}; bars: 95 % over {group.unit}s", fontsize=9)
