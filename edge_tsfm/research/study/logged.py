"""Finished cells in the tools that log runs, each told from the files of its own folder.

Cells train in processes, or on machines, of their own; here one process tells of them, one after the other.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from device_runtime.documents import read_json
from device_runtime.files import write_atomic
from edge_tsfm.errors import TrainError
from edge_tsfm.research.study.cells import Cell
from edge_tsfm.runs.log_to import open_loggers
from edge_tsfm.runs.record import RUN_FILE
from edge_tsfm.training.callbacks import Figures
from edge_tsfm.training.curves import CURVE_FILE

MARK = "logged.json"  # in a cell's folder: the tools that have it


def log_cell(cell: Cell, out: Path, tools: Sequence[str]) -> None:
    """Log an adapter's run to the ``tools`` that do not have it yet; a cell without a finished run is passed over.

    Raises what the tools raise, and `TrainError` for a record that cannot be read.
    """
    folder = out / cell.folder
    if cell.kind != "adapter" or not (folder / RUN_FILE).exists():
        return
    have = list(read_json(folder / MARK, error=TrainError)) if (folder / MARK).exists() else []
    record = read_json(folder / RUN_FILE, error=TrainError)
    for tool in dict.fromkeys(one for one in tools if one not in have):
        (logger,) = open_loggers([tool], folder)
        logger.on_begin(_facts(record))
        for step, figures in _steps(folder / CURVE_FILE):
            logger.on_step(step, figures)
        logger.on_end(record)
        have.append(tool)
        write_atomic(folder / MARK, f"{json.dumps(have)}\n".encode())


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a run as its training would have told them, without the paths of data and base."""
    return {
        "config": {name: value for name, value in record["config"].items() if name not in ("data", "base")},
        "signal": record["channel"],
        "base": {name: record["base"][name] for name in ("name", "family", "digest")},
        "data": {name: record["data"][name] for name in ("fingerprint", "items")},
        "windows": record["windows"],
    }


def _steps(path: Path) -> Iterator[tuple[int, Figures]]:
    """Yield the figures of every validation; the frozen base, at step 0, has no training loss."""
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            figures = {name: float(value) for name, value in row.items()}
            yield step, {name: value for name, value in figures.items() if math.isfinite(value)}
