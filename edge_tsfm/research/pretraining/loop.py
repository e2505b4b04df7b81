"""The training loop: generate, step, average, log, save; resumable at every checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from edge_tsfm.errors import TrainError
from edge_tsfm.research.pretraining.checkpoint import CHECKPOINT, Progress, State, load_checkpoint, save_checkpoint
from edge_tsfm.research.pretraining.config import OptimiserConfig, PretrainConfig
from edge_tsfm.research.pretraining.corpus import Batch, draw_batch
from edge_tsfm.research.pretraining.ema import Average
from edge_tsfm.research.pretraining.objective import batch_loss, trainable
from edge_tsfm.research.pretraining.ranks import ALONE, Ranks
from edge_tsfm.research.pretraining.schedule import learning_rate

Watch = Callable[[nn.Module, Progress], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class _Steps(Dataset[Batch]):
    """Batches by step number, so that worker processes only change who computes them."""

    config: PretrainConfig
    rank: int
    device: torch.device

    def __len__(self) -> int:
        return self.config.optimiser.steps

    def __getitem__(self, step: int) -> Batch:
        if self.config.workers:
            torch.set_num_threads(1)
        return draw_batch(self.config.corpus, step, rank=self.rank, device=self.device)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where one update happens: its number, device and processes."""

    config: OptimiserConfig
    step: int
    device: torch.device
    ranks: Ranks


def train(
    model: nn.Module,
    config: PretrainConfig,
    folder: Path,
    *,
    device: torch.device,
    resume: bool = True,
    record: dict[str, Any] | None = None,
    watch: Watch | None = None,
    on_log: Callable[[Progress], None] | None = None,
    ranks: Ranks = ALONE,
) -> Progress:
    """Train in place; at the end the model holds the averaged weights.

    Args:
        model: what learns; only parameters that require gradients do.
        config: the run.
        folder: where ``checkpoint.pt`` lives.
        device: where the model is.
        resume: go on from a checkpoint when there is one.
        record: the configuration as written into checkpoints (default: ``config`` itself).
        watch: measures the averaged model at every save; its figures join the curve.
        on_log: called after every line of the curve.
        ranks: the processes that share this run.

    Raises:
        TrainError: the loss is not finite, or the checkpoint is of another run.
    """
    record = record or config.to_dict()
    state = _begin(model, config.optimiser)
    average, progress = state.average, state.progress
    if resume and (folder / CHECKPOINT).exists():
        load_checkpoint(folder, state, record)
    model.train()
    stretch = _Stretch(progress)
    first, steps = ranks.rank == 0, config.optimiser.steps
    for batch in _batches(config, progress.step, ranks.rank, device):
        place = _Place(config=config.optimiser, step=progress.step, device=device, ranks=ranks)
        stretch.losses.append(_step(model, batch, state.optimiser, place))
        average.update(model, progress.step)
        progress.step += 1
        progress.series += len(batch.context) * ranks.count
        last = progress.step == steps
        saving = progress.step % config.save_every == 0 or last
        if progress.step % config.log_every == 0 or last:
            row = stretch.row(config.optimiser)
            if saving and watch is not None and first:
                row |= _watched(model, average, watch, progress)
            progress.curve.append(row)
            stretch = _Stretch(progress)
            if on_log is not None and first:
                on_log(progress)
        if saving and first:
            save_checkpoint(folder, state, record)
    average.swap(model)
    model.eval()
    return progress


def _begin(model: nn.Module, optim: OptimiserConfig) -> State:
    """Make what a run changes, as it is before the first step."""
    optimiser = torch.optim.AdamW(
        trainable(model), lr=optim.learning_rate, betas=optim.betas, weight_decay=optim.weight_decay
    )
    return State(model=model, average=Average(model, optim.ema_decay), optimiser=optimiser, progress=Progress())


def _batches(config: PretrainConfig, step: int, rank: int, device: torch.device) -> DataLoader[Batch]:
    """Return one process's batches from ``step`` on; worker processes have no accelerator."""
    here = device if not config.workers else torch.device("cpu")
    return DataLoader(
        _Steps(config=config, rank=rank, device=here),
        batch_size=None,
        sampler=range(step, config.optimiser.steps),
        num_workers=config.workers,
    )


class _Stretch:
    """The steps between two lines of the curve."""

    def __init__(self, progress: Progress) -> None:
        self.losses: list[torch.Tensor] = []
        self._progress = progress
        self._since, self._seen = time.monotonic(), progress.series

    def row(self, optim: OptimiserConfig) -> dict[str, float]:
        """Return the stretch's line, its time counted. Raises `TrainError` for a loss that is not finite."""
        progress = self._progress
        loss = float(torch.stack(self.losses).mean())
        if not math.isfinite(loss):
            raise TrainError(
                f"the loss is {loss} at step {progress.step}",
                hint="lower [optimiser] learning_rate, or set bf16 = false",
            )
        elapsed = time.monotonic() - self._since
        progress.seconds += elapsed
        return {
            "step": float(progress.step),
            "series": float(progress.series),
            "seconds": progress.seconds,
            "loss": loss,
            "learning_rate": learning_rate(optim, progress.step - 1),
            "series_per_second": (progress.series - self._seen) / elapsed,
        }


def _step(model: nn.Module, batch: Batch, optimiser: torch.optim.Optimizer, place: _Place) -> torch.Tensor:
    """One update; the loss, detached."""
    optim, device = place.config, place.device
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(optim, place.step)
    batch = Batch(context=batch.context.to(device), target=batch.target.to(device))
    with torch.autocast(device.type, torch.bfloat16, enabled=optim.bf16):
        loss = batch_loss(model, batch, optim)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch ships no types for it
    place.ranks.average_gradients(trainable(model))
    nn.utils.clip_grad_norm_(trainable(model), optim.clip_norm)
    optimiser.step()
    return loss.detach()


def _watched(model: nn.Module, average: Average, watch: Watch, progress: Progress) -> dict[str, float]:
    """Measure the averaged weights and put the training weights back."""
    average.swap(model)
    model.eval()
    try:
        with torch.no_grad():
            return watch(model, progress)
    finally:
        model.train()
        average.swap(model)
