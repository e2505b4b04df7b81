"""What `inspect` shows of data: exactly what `train` would read, with the same options and the same functions."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from device_runtime.series.options import ReadOptions
    from edge_tsfm.data import Dataset, Part, Series
    from edge_tsfm.training.config import TrainConfig

PARTS: tuple[Part, ...] = ("train", "stopping", "gate", "test")
PLOT_WIDTH = 72  # characters
PLOT_HEIGHT = 8
MOST_NAMED = 5  # items
POINT, BLANK = "•", " "


def read_as_train(config: TrainConfig) -> tuple[dict[str, Any], list[str]]:
    """Read data as a run of ``config`` does: facts for programs, and lines for people.

    Raises what reading and splitting raise, as `train` would.
    """
    from edge_tsfm.runs.run import read_run_data, split_of_run

    dataset = read_run_data(config)
    split = split_of_run(config, dataset)
    seen = np.concatenate([one.target[np.isfinite(one.target)] for one in dataset.series])
    low, median, high = (float(number) for number in np.quantile(seen, (0, 0.5, 1)))
    longest = max(dataset.series, key=lambda one: int(np.isfinite(one.target).sum()))
    facts = {
        **dataset.report.to_dict(),
        "low": low,
        "median": median,
        "high": high,
        "items_by_name": list(dataset.item_ids[:MOST_NAMED]),
        "empty_items": list(dataset.empty_items),
        "span": _span(longest),
        "split_by": split.by,
        "split": _parts(dataset, config),
        "context_length": config.context_length,
        "prediction_length": config.prediction_length,
        "fingerprint": dataset.fingerprint,
    }
    return facts, [*dataset.report.lines(), *dataset.report.columns, *_lines(facts), *plot(longest)]


def _parts(dataset: Dataset, config: TrainConfig) -> dict[str, dict[str, int]]:
    """Count the items and windows of each part, as training and evaluation cut them."""
    from edge_tsfm.runs.run import cut, split_of_run

    split = split_of_run(config, dataset)
    counts: dict[str, dict[str, int]] = {}
    for part in PARTS:
        windows = cut(dataset, split, part, config, config.train_stride if part == "train" else None)
        held = {one.item_id for one in split.series(dataset.series, part)}
        counts[part] = {"items": len(held), "windows": len(windows), "items_with_windows": len(set(windows.item_id))}
    return counts


def _span(series: Series) -> str:
    """Format from when to when a series goes."""
    import pandas as pd

    if series.start is None or not isinstance(series.interval, pd.Timedelta):
        return f"steps {series.step_number(0)} to {series.step_number(len(series) - 1)}"
    return f"{series.start} to {series.start + series.interval * (len(series) - 1)}"


def _lines(facts: dict[str, Any]) -> list[str]:
    """Describe what the import's report does not contain."""
    named = ", ".join(facts["items_by_name"]) + (", ..." if facts["items"] > MOST_NAMED else "")
    lines = [f"values {facts['low']:g} to {facts['high']:g}, median {facts['median']:g}", f"items {named}"]
    if empty := facts["empty_items"]:
        lines.append(
            f"without one usable value: {', '.join(empty[:MOST_NAMED])}{', ...' if empty[MOST_NAMED:] else ''}"
        )
    lines.append(
        f"split by {facts['split_by']}, windows of {facts['context_length']} → {facts['prediction_length']} steps:"
    )
    for part, count in facts["split"].items():
        lines.append(f"  {part:9} {count['items']:7,} items, {count['windows']:9,} windows")
    return lines


def plot(series: Series) -> list[str]:
    """Draw a series in a few lines of text: a column is the median of its places, blank where nothing was measured."""
    columns = _columns(series.target)
    seen = columns[np.isfinite(columns)]
    low, high = float(seen.min()), float(seen.max())
    step = (high - low) / (PLOT_HEIGHT - 1) or 1.0
    rows = np.round((columns - low) / step)  # [W], NaN where nothing was measured
    width = max(len(f"{low:g}"), len(f"{high:g}"))
    lines = [f"item {series.item_id}, the one with the most values, {_span(series)}:"]
    for row in range(PLOT_HEIGHT - 1, -1, -1):
        label = f"{high:g}" if row == PLOT_HEIGHT - 1 else f"{low:g}" if row == 0 else ""
        lines.append(f"{label:>{width}} |{''.join(POINT if at == row else BLANK for at in rows).rstrip()}")
    return lines


def _columns(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return at most `PLOT_WIDTH` medians of stretches of ``values`` ``[T]``."""
    edges = np.linspace(0, len(values), min(PLOT_WIDTH, len(values)) + 1).astype(int)
    stretches = [values[begin:end][np.isfinite(values[begin:end])] for begin, end in pairwise(edges)]
    return np.array([np.median(one) if len(one) else np.nan for one in stretches], dtype=np.float64)


def list_columns(path: Path, options: ReadOptions) -> tuple[dict[str, Any], list[str]]:
    """List what a data file holds, for who does not know yet what to ask for: facts, and lines for people."""
    from edge_tsfm.cli.columns import column_lines
    from edge_tsfm.cli.columns import list_columns as listed

    facts = listed(path, options)
    rows = facts.get("columns") or facts.get("signals") or []
    told = [f"{key:18} {value}" for key, value in facts.items() if key not in ("columns", "signals")]
    return facts, [*told, *column_lines(rows), "--target NAME says what train would read of one of them"]
