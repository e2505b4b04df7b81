"""The training loop: frozen base, few trainable numbers, early stopping, exact resume."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from device_runtime.files import write_atomic
from edge_tsfm.data import Windows
from edge_tsfm.errors import TrainError
from edge_tsfm.models.family import Family
from edge_tsfm.training.config import TrainConfig, resumed

Report = Callable[[int, float, float], None]  # step, training loss, validation loss (NaN before the first)
VALIDATION_WINDOWS = 4_096  # a seeded sample is enough to stop early by; the gate uses all of its own


@dataclass(kw_only=True)
class Fit:
    """What the loop made: the best numbers and the curve that led there."""

    best: dict[str, torch.Tensor]
    best_step: int
    best_loss: float
    curve: list[tuple[int, float, float]] = field(default_factory=list)  # step, training loss, validation loss
    stopped_early: bool = False


def fit(
    model: nn.Module,
    family: Family,
    train: Windows,
    validation: Windows,
    config: TrainConfig,
    *,
    learning_rate: float,
    checkpoint: Path | None = None,
    report: Report = lambda *_: None,
) -> Fit:
    """Train what is trainable in ``model`` and leave the best numbers (by validation loss) in it.

    With ``checkpoint`` the whole state is written there at every evaluation, and a state found there is continued
    exactly: a run that was killed ends with the same numbers as one that was not. Raises `TrainError` when there is
    nothing to train on or the loss is not finite.
    """
    if not len(train) or not len(validation):
        raise TrainError(
            f"{len(train)} training and {len(validation)} validation windows: want at least one of each",
            hint="more patients, or a smaller context, min_observed or prediction_length",
        )
    device = next(iter(model.parameters())).device
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimiser = torch.optim.AdamW(trainable.values(), lr=learning_rate, weight_decay=0.0)
    rng = np.random.default_rng(config.seed)
    held = _sample(validation, rng)
    state = _State(trainable=trainable, optimiser=optimiser, rng=rng, step=0, fit=None)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint, config)
    if state.fit is None:
        loss = _validate(model, family, held, config.batch_size)
        state.fit = Fit(best=_copy(trainable), best_step=0, best_loss=loss, curve=[(0, math.nan, loss)])
    result, running = state.fit, 0.0
    model.train()
    for step in range(state.step, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * schedule(step, config.steps, config.warmup_steps)
        chosen = rng.integers(0, len(train), config.batch_size)
        context = torch.from_numpy(train.context[chosen]).to(device)
        target = torch.from_numpy(train.target[chosen]).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            loss_now = family.loss(model, context, target)
        value = float(loss_now.detach())
        if not math.isfinite(value):
            raise TrainError(f"the training loss is {value} at step {step}", hint="lower --learning-rate")
        optimiser.zero_grad()
        loss_now.backward()  # type: ignore[no-untyped-call]  # torch ships this one without types
        torch.nn.utils.clip_grad_norm_(trainable.values(), config.clip_norm)
        optimiser.step()
        running += (value - running) / (step % config.evaluate_every + 1)
        report(step + 1, running, result.curve[-1][2])
        if (step + 1) % config.evaluate_every == 0 or step + 1 == config.steps:
            held_loss = _validate(model, family, held, config.batch_size)
            result.curve.append((step + 1, running, held_loss))
            if held_loss < result.best_loss:
                result.best, result.best_step, result.best_loss = _copy(trainable), step + 1, held_loss
            running, state.step = 0.0, step + 1
            if checkpoint is not None:
                state.save(checkpoint, config)
            if step + 1 - result.best_step >= config.patience * config.evaluate_every:
                result.stopped_early = True
                break
            model.train()
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(result.best[name])
    model.eval()
    return result


def schedule(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at ``step``: linear warm-up, then half a cosine down to zero."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def _sample(windows: Windows, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the windows to stop early by."""
    count = min(len(windows), VALIDATION_WINDOWS)
    chosen = np.sort(rng.permutation(len(windows))[:count])
    return torch.from_numpy(windows.context[chosen]), torch.from_numpy(windows.target[chosen])


def _validate(model: nn.Module, family: Family, held: tuple[torch.Tensor, torch.Tensor], batch: int) -> float:
    """Return the loss on held windows, weighted by their number."""
    model.eval()
    device = next(iter(model.parameters())).device
    total, size = 0.0, 4 * batch
    with torch.no_grad():
        for start in range(0, len(held[0]), size):
            context, target = (part[start : start + size].to(device) for part in held)
            total += float(family.loss(model, context, target)) * len(context)
    return total / len(held[0])


def _copy(trainable: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Copy the trainable numbers."""
    return {name: parameter.detach().clone() for name, parameter in trainable.items()}


@dataclass(kw_only=True)
class _State:
    """Everything a killed run needs to go on as if nothing had happened."""

    trainable: dict[str, nn.Parameter]
    optimiser: torch.optim.Optimizer
    rng: np.random.Generator
    step: int
    fit: Fit | None

    def save(self, path: Path, config: TrainConfig) -> None:
        """Write the state whole or not at all."""
        assert self.fit is not None
        buffer = io.BytesIO()
        torch.save(
            {
                "config": config.to_dict(),
                "step": self.step,
                "numbers": _copy(self.trainable),
                "optimiser": self.optimiser.state_dict(),
                "numpy": self.rng.bit_generator.state,
                "torch": torch.get_rng_state(),
                "fit": vars(self.fit),
            },
            buffer,
        )
        write_atomic(path, buffer.getvalue())

    def load(self, path: Path, config: TrainConfig) -> None:
        """Continue from ``path``. Raises `TrainError` when it is of another configuration."""
        saved: dict[str, Any] = torch.load(path, weights_only=True)
        if not resumed(config, saved["config"]):
            raise TrainError(
                f"{path} is of a run with another configuration", hint="give another --out, or the same options"
            )
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(saved["numbers"][name])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.rng.bit_generator.state = saved["numpy"]
        torch.set_rng_state(saved["torch"])
        self.step, self.fit = saved["step"], Fit(**saved["fit"])
