"""A plot of shipped parameters against gain in MSE."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_tsfm.report.figures import png
from edge_tsfm.research.study.table import Group, Row


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
    figure.draw_without_rendering()  # labels look for room where points will be, which the layout decides
    for axis, group in zip(axes, groups, strict=False):
        _label(axis, [(row.label, float(row.parameters or 0), -100 * row.change["mse"].value) for row in _tuned(group)])
    return png(figure)


def front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other equals or beats with as few parameters, by rising count."""
    best: list[Row] = []
    for row in sorted(rows, key=lambda one: (one.parameters or 0, one.figures["mse"].value)):
        if not best or row.figures["mse"].value < best[-1].figures["mse"].value:
            best.append(row)
    return best


def _tuned(group: Group) -> list[Row]:
    return [row for row in group.rows if row.kind == "adapter" and row.parameters]


def _draw(axis: Axes, group: Group) -> None:
    tuned = _tuned(group)
    for row in tuned:
        one = row.change["mse"]
        colour = "#d55e00" if row.method == "full" else "#0072b2"
        gain = [-100 * x for x in (one.value, one.high, one.low)]
        count = float(row.parameters or 0)
        axis.plot([count] * 2, gain[1:], color=colour, linewidth=2, alpha=0.35)
        passed = row.tallied is None or row.tallied.passed
        axis.plot([count], [gain[0]], color=colour, marker="o", markersize=5, markerfacecolor=colour if passed else "w")
    edge = front(tuned)
    axis.plot(
        [float(row.parameters or 0) for row in edge],
        [-100 * row.change["mse"].value for row in edge],
        color="#999999",
        zorder=0,
    )
    axis.axhline(0, color="#999999", linewidth=0.8, linestyle=":")
    axis.set_xscale("log")
    axis.margins(x=0.12)
    axis.set_xlabel("parameters shipped")
    axis.set_ylabel("MSE below the frozen base's [%]")
    axis.set_title(
        f"{group.target}, {group.base}; test {group.unit}s, bars: 95 %; hollow: not accepted by the gate", fontsize=9
    )


FONT = 7  # points
NUDGES = [sign * 8.5 * step for step in range(12) for sign in ((1,) if step == 0 else (1, -1))]  # points up or down


def _label(axis: Axes, named: Sequence[tuple[str, float, float]]) -> None:
    """Write each point's label beside it, moved up or down with a line to its point where others are in the way.

    Methods with about as many parameters stand one above the other, so labels at their points would cover each other.
    """
    points_per_pixel = 72 / axis.figure.dpi
    placed: list[tuple[float, float, float]] = []  # left, right and middle, in points
    for label, x, y in sorted(named, key=lambda one: -one[2]):
        left, middle = axis.transData.transform((x, y)) * points_per_pixel
        right = left + 14 + 0.6 * FONT * len(label)
        nudge = next(
            (
                up
                for up in NUDGES
                if all(
                    right < other_left or left > other_right or abs(middle + up - at) >= 8
                    for other_left, other_right, at in placed
                )
            ),
            0.0,
        )
        placed.append((left, right, middle + nudge))
        axis.annotate(
            label,
            (x, y),
            xytext=(12, nudge),
            textcoords="offset points",
            fontsize=FONT,
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#999999", "shrinkA": 0, "shrinkB": 3},
        )
