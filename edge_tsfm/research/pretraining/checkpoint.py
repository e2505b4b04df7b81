"""Checkpoints of a run: everything needed to go on as if nothing had happened, and averaged weights to look
at.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from device_runtime.files import write_atomic
from edge_tsfm.errors import TrainError
from edge_tsfm.research.pretraining.ema import Average
from edge_tsfm.training.stored import read_checkpoint

CHECKPOINT = "checkpoint.pt"


@dataclass(kw_only=True)
class Progress:
    """Where a run stands."""

    step: int = 0  # steps done
    series: int = 0  # series seen
    seconds: float = 0.0  # wall time spent training
    curve: list[dict[str, float]] = field(default_factory=list)  # one row per log line


@dataclass(frozen=True, kw_only=True)
class State:
    """What a run changes as it goes."""

    model: nn.Module
    average: Average
    optimiser: torch.optim.Optimizer
    progress: Progress


def save_checkpoint(folder: Path, state: State, config: dict[str, Any]) -> None:
    """Write one atomic file; a kill leaves the previous checkpoint or this one, never half of either."""
    buffer = io.BytesIO()
    torch.save(
        {
            "config": config,
            "model": state.model.state_dict(),
            "average": state.average.shadow,
            "optimiser": state.optimiser.state_dict(),
            "progress": vars(state.progress),
        },
        buffer,
    )
    write_atomic(folder / CHECKPOINT, buffer.getvalue())


def load_checkpoint(folder: Path, state: State, config: dict[str, Any]) -> None:
    """Restore a run in place.

    Raises:
        TrainError: the checkpoint was made with another configuration (the number of steps and the decay
            may differ).
    """
    keys = ("config", "model", "average", "optimiser", "progress")
    held = read_checkpoint(folder / CHECKPOINT, keys, place="cpu")
    ours, theirs = _what_must_agree(config), _what_must_agree(held["config"])
    if ours != theirs:
        differing = sorted(key for key in ours if ours[key] != theirs.get(key))
        raise TrainError(
            f"{folder / CHECKPOINT} was made with another configuration: {', '.join(differing)} differ",
            hint="give another --out, or --no-resume to start afresh",
        )
    state.model.load_state_dict(held["model"])
    for name, value in held["average"].items():
        state.average.shadow[name].copy_(value)
    state.optimiser.load_state_dict(held["optimiser"])
    for name, value in held["progress"].items():
        setattr(state.progress, name, value)


def _what_must_agree(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what may change between legs of one run."""
    free = ("steps", "decay_steps")
    return {
        "name": config["name"],
        "family": config["family"],
        "seed": config["seed"],
        "method": config.get("method"),
        "shape": config["shape"],
        "corpus": config["corpus"],
        "optimiser": {k: v for k, v in config["optimiser"].items() if k not in free},
    }
