"""Labels of methods with about as many numbers stand clear of one another."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from edge_tsfm.research.study.pareto import _label


def test_no_label_covers_another() -> None:
    figure = Figure(figsize=(6.4, 4.4))
    canvas = FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.set_xscale("log")
    named = [(f"method-{n}", 2000.0 + 50 * n, 3 + 0.02 * n) for n in range(9)]
    axis.plot([x for _, x, _ in named] + [100, 1e6], [y for _, _, y in named] + [0, 4])
    figure.draw_without_rendering()
    _label(axis, named)
    canvas.draw()
    texts = [child for child in axis.get_children() if isinstance(child, Annotation)]
    boxes = [text.get_tightbbox(canvas.get_renderer()) for text in texts]
    assert len(boxes) == 9
    heights = sorted(float(text.xyann[1]) + axis.transData.transform(text.xy)[1] * 72 / figure.dpi for text in texts)
    assert np.diff(heights).min() >= 7.9
