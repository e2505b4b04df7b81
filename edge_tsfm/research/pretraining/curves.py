"""Loss and zero-shot error over training, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from device_runtime.files import write_atomic


def write_csv(curve: list[dict[str, float]], path: Path) -> None:
    """Write one line per log line; columns that a line lacks stay empty."""
    columns = list(dict.fromkeys(key for row in curve for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in curve)
    write_atomic(path, text.getvalue().encode())


def write_png(curve: list[dict[str, float]], path: Path, *, title: str) -> None:
    """Draw the training loss and, where measured, the zero-shot error of each signal against series seen."""
    from matplotlib.figure import Figure

    measured = list(dict.fromkeys(key for row in curve for key in row if key.startswith(("wql_", "synthetic"))))
    figure = Figure(figsize=(7, 2.4 * (1 + len(measured))), layout="constrained")
    axes = figure.subplots(1 + len(measured), 1, sharex=True, squeeze=False)[:, 0]
    for axis, key in zip(axes, ["loss", *measured], strict=True):
        points = [(row["series"] / 1e6, row[key]) for row in curve if key in row]
        axis.plot([x for x, _ in points], [y for _, y in points], linewidth=1)
        axis.set_ylabel(key)
        axis.grid(alpha=0.3)
    axes[0].set_title(title)
    axes[-1].set_xlabel("million series seen")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    write_atomic(path, picture.getvalue())
