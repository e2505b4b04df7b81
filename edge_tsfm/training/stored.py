"""Tensors and checkpoints that a run left behind, or an error that names the file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from edge_tsfm.errors import TrainError


def read_parameters(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file. Raises `TrainError` when it is not there, or not whole."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        parameters: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainError(f"{path}: the run's parameters cannot be read: {error}", hint="train it again") from error
    return parameters


def read_checkpoint(path: Path, keys: tuple[str, ...], *, place: str | None = None) -> dict[str, Any]:
    """Read a checkpoint that holds ``keys``. Raises `TrainError` when it cannot be read, or is something else."""
    hint = "remove it to begin again"
    try:
        saved = torch.load(path, map_location=place, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrainError(f"{path}: not a checkpoint: {reason}", hint=hint) from error
    if not isinstance(saved, dict) or not set(keys) <= saved.keys():
        raise TrainError(f"{path}: not a checkpoint of this kind: want {', '.join(keys)}", hint=hint)
    return saved
