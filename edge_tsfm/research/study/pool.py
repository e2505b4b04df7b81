"""Cells over cores or GPUs: a process for each worker, one thread in each, a failed cell does not stop the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from device_runtime.errors import DeviceRuntimeError
from edge_tsfm.errors import EdgeTsfmError
from edge_tsfm.research.study.cells import Cell
from edge_tsfm.research.study.work import perform

Report = Callable[[Cell], None]


def default_jobs() -> int:
    """Return one worker for each GPU, else for each core this process may use."""
    return torch.cuda.device_count() or len(os.sched_getaffinity(0))


def attempt(cell: Cell, out: Path) -> str | None:
    """Perform a cell; return its error in words where it failed."""
    try:
        perform(cell, out)
    except (EdgeTsfmError, DeviceRuntimeError, OSError) as error:
        return str(error)
    return None


def run_cells(cells: Sequence[Cell], out: Path, *, jobs: int, report: Report = lambda _: None) -> dict[str, str]:
    """Perform all cells, ``jobs`` at a time; return the folders of those that failed, with their errors.

    One job runs in this process. Only the project's own errors and the machine's count as a failed cell: a bug stops
    the study, which goes on where it stopped when it is started again.
    """
    failed: dict[str, str] = {}
    if jobs == 1:
        for cell in cells:
            if (error := attempt(cell, out)) is not None:
                failed[cell.folder] = error
            report(cell)
        return failed
    context = get_context("spawn")  # torch's threads do not survive a fork
    turn = context.Value("i", 0)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(turn,)) as pool:
        waiting = {pool.submit(attempt, cell, out): cell for cell in cells}
        try:
            for future in as_completed(waiting):
                cell = waiting[future]
                if (error := future.result()) is not None:
                    failed[cell.folder] = error
                report(cell)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def _begin(turn: Any) -> None:
    """Give a new worker one thread and, where there are some, its GPU."""
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        with turn.get_lock():
            torch.cuda.set_device(turn.value % torch.cuda.device_count())
            turn.value += 1
