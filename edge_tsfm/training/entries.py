"""A run's chosen entries: found before training, kept in the run folder for resuming, evaluation and export."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from device_runtime.files import write_atomic
from edge_tsfm.data import Windows
from edge_tsfm.errors import TrainError
from edge_tsfm.methods.entries import Entries, choose_entries, weight_gradients
from edge_tsfm.methods.fourierft import fourier_sites
from edge_tsfm.models import FAMILIES, Base
from edge_tsfm.models.parts import find_parts
from edge_tsfm.options import SEEDED
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.course import draw

ENTRIES_FILE = "entries.safetensors"
GRADIENT_BATCHES = 16  # the first that training itself will see


def choose_for_run(config: TrainConfig, base: Base, train: Windows, out: Path, device: torch.device) -> Entries | None:
    """Choose entries by the gradient on training windows and write them to ``out``; ``None`` for seeded ones."""
    if config.entries == SEEDED:
        return None
    family = FAMILIES[base.family]
    model = copy.deepcopy(base.model)
    names, count = fourier_sites(model, find_parts(model, family), config.options)
    batches = (draw(train, config, step, device) for step in range(GRADIENT_BATCHES))
    entries = choose_entries(weight_gradients(model.to(device), family, names, batches), count, config.entries)
    write_entries(entries, out)
    return entries


def write_entries(entries: Entries, run: Path) -> None:
    """Write entries under their weights' names."""
    from safetensors.numpy import save

    write_atomic(run / ENTRIES_FILE, save(dict(entries)))


def read_entries(config: TrainConfig, run: Path) -> Entries | None:
    """Read the entries of a run folder; ``None`` for seeded ones. Raises `TrainError` when they are not there."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if config.entries == SEEDED:
        return None
    path = run / ENTRIES_FILE
    try:
        entries: Entries = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise TrainError(f"{path}: the run's entries cannot be read: {error}", hint="train it again") from error
    return entries
