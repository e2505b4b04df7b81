"""Runs whose tuned numbers are drawn: a few steps of training leave none that matter."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from edge_tsfm.training.record import RUN_FILE
from edge_tsfm.training.run import NUMBERS_FILE, digests


def redraw(run: Path, draw: Callable[[torch.Tensor], torch.Tensor], *, seed: int = 0) -> None:
    """Put ``draw(number)`` in place of each of a run's tuned numbers, and pin them in its record as training does."""
    torch.manual_seed(seed)
    numbers = load_file(run / NUMBERS_FILE)
    save_file({name: draw(value) for name, value in numbers.items()}, run / NUMBERS_FILE)
    record = json.loads((run / RUN_FILE).read_text())
    record["files"] = digests(run)
    (run / RUN_FILE).write_text(json.dumps(record))
