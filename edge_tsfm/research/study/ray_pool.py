"""Cells over a Ray cluster, whose nodes see the data and the study's folder under the same paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from edge_tsfm.research.study.cells import Cell
from edge_tsfm.research.study.pool import attempt
from edge_tsfm.runs.ray_cluster import cluster


def run_cells_on_ray(
    cells: Sequence[Cell], out: Path, *, address: str, report: Callable[[Cell], None] = lambda _: None
) -> dict[str, str]:
    """Perform all cells, one core (and where this machine has some, one GPU) each; return failures as `run_cells`.

    ``address`` is that of `edge_tsfm.runs.ray_cluster.cluster`. Raises `ConfigError` when there is no cluster.
    """
    with cluster(address) as ray:
        task = ray.remote(num_cpus=1, num_gpus=int(torch.cuda.is_available()))(_alone)
        waiting = {task.remote(cell, out.resolve()): cell for cell in cells}
        failed = {}
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            cell = waiting.pop(done)
            if (message := ray.get(done)) is not None:
                failed[cell.folder] = message
            report(cell)
        return failed


def _alone(cell: Cell, out: Path) -> str | None:
    """Perform a cell with the one thread it is counted for."""
    torch.set_num_threads(1)
    return attempt(cell, out)
