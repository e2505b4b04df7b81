"""What a training run starts from: base, data, split, windows and entries, checked before anything is trained."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_tsfm.data import Dataset, Split, Windows
from edge_tsfm.data.read import Opened, read_opened
from edge_tsfm.data.sources import Source
from edge_tsfm.data.use import interval_us
from edge_tsfm.errors import ConfigError, TrainError
from edge_tsfm.methods import attach, find_method
from edge_tsfm.methods.entries import Entries
from edge_tsfm.models import FAMILIES, load_base
from edge_tsfm.models.base import Base, context_of
from edge_tsfm.options import SEEDED
from edge_tsfm.runs.run import CHECKPOINT_FILE, binding_of, cut, forecast, read_run_data, split_of_run
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.course import check_windows
from edge_tsfm.training.entries import choose_for_run, read_entries


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A run before training."""

    config: TrainConfig
    base: Base
    dataset: Dataset
    split: Split
    windows: dict[str, Windows]  # of train, stopping and gate
    gate: Windows  # those of the gate's that are drawn
    entries: Entries | None  # None: seeded ones
    device: torch.device

    @property
    def identity(self) -> dict[str, Any]:
        """What makes a checkpoint one of the same run."""
        return {"configuration": self.config.to_dict(), "data": self.dataset.fingerprint, "base": self.base.digest}

    @property
    def levels(self) -> tuple[float, ...]:
        """The base's quantile levels."""
        return FAMILIES[self.base.family].levels(self.base.model)

    def at_the_gate(self, model: nn.Module) -> NDArray[np.float32]:
        """Forecast the gate's windows: quantiles ``[N, H, Q]``."""
        return forecast(model, self.base.family, self.gate.context, self.config.prediction_length)


def prepare(config: TrainConfig, out: Path, source: Source | Opened | None = None, base: Base | None = None) -> Setting:
    """Load and cut what ``config`` names, or ``source`` in its data's place and ``base`` in its base's.

    Entries chosen by the gradient are read from ``out``, or written there.

    Raises `ConfigError`, `DataError`, `ModelError` and `TrainError` for what would fail later, too.
    """
    base = base or load_base(config.base)
    if config.context_length > (most := context_of(base)):
        raise ConfigError(
            f"context_length {config.context_length}: base {base.name} reads at most {most} steps",
            hint=f"--context-length {most} or less; a longer one has no effect",
        )
    if isinstance(source, Opened):  # its method was found to fit before anything was read
        dataset = read_opened(source, config.reading, target=config.target)
    else:
        _try_method(config, base)
        dataset = read_run_data(config, source)
    binding_of(dataset.signal, interval_us(dataset.interval), config)  # better an error now than when it is exported
    split = split_of_run(config, dataset)
    windows = _windows(config, dataset, split)
    config.season_of(dataset)  # `evaluate` will want it: better an error now than after training
    device = training_device()
    resumed = (out / CHECKPOINT_FILE).exists()
    entries = read_entries(config, out) if resumed else choose_for_run(config, base, windows["train"], out, device)
    gate = windows["gate"].draw(config.gate_windows, config.seed)
    return Setting(
        config=config, base=base, dataset=dataset, split=split, windows=windows, gate=gate, entries=entries,
        device=device,
    )  # fmt: skip


def _try_method(config: TrainConfig, base: Base) -> None:
    """Raise what attaching the method will, before data are read: a misspelt name may otherwise cost minutes."""
    with torch.random.fork_rng(devices=[]):  # a method may draw: the run itself draws from its own seed
        seeded = replace(config.options, entries=SEEDED)  # others are chosen by the data, with the same refusals
        attach(copy.deepcopy(base.model), find_method(config.method), seeded)


def training_device() -> torch.device:
    """Return where a run is trained: on the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _windows(config: TrainConfig, dataset: Dataset, split: Split) -> dict[str, Windows]:
    """Cut the parts that training, early stopping and the gate see. Raises `TrainError` when one of them has none."""
    windows = {
        "train": cut(dataset, split, "train", config, config.train_stride),
        "stopping": cut(dataset, split, "stopping", config),
        "gate": cut(dataset, split, "gate", config),
    }
    check_windows(windows["train"], windows["stopping"])
    if not len(windows["gate"]):
        raise TrainError(
            f"{dataset.report.source}: no window in the gate's part of the data",
            hint="more patients, or a longer series; docs/guides/data.md says how data are split",
        )
    return windows
