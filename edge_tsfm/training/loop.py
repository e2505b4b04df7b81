"""The training loop: frozen base, few trainable parameters, early stopping, exact resume.

The model stays in evaluation mode: dropout would train another function than the one that is deployed, and a few
thousand parameters do not memorise a ward. So the only randomness is in the windows of a step, which are determined by
the seed and the step number.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from device_runtime.files import write_atomic
from edge_tsfm.data import Windows
from edge_tsfm.errors import TrainError
from edge_tsfm.models.family import Objective, device_of
from edge_tsfm.progress import Work
from edge_tsfm.training.callbacks import Figures
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.stored import read_checkpoint

Report = Callable[[int, Figures], None]  # step, and what is known of it: `Callback.on_step`
VALIDATION_WINDOWS = 2_048  # a seeded sample is enough to stop early by; the gate judges on `gate_windows`
Pair = tuple[torch.Tensor, torch.Tensor]  # contexts [N, L], targets [N, H]


@dataclass(kw_only=True)
class Fit:
    """What the loop made: the best parameters and the curve that led there."""

    best: dict[str, torch.Tensor]
    best_step: int
    best_score: float
    curve: list[tuple[int, float, float]] = field(default_factory=list)  # step, training loss, validation score
    stopped_early: bool = False


def fit(
    model: nn.Module,
    family: Objective,
    train: Windows,
    validation: Windows,
    config: TrainConfig,
    *,
    rates: Mapping[str, float],
    checkpoint: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    report: Report = lambda *_: None,
    work: Work | None = None,
) -> Fit:
    """Train the parameters that ``rates`` names, each with its peak learning rate, and leave the best parameters there.

    Best by the family's stopping metric on a sample of ``validation``. The frozen base is the first candidate: numbers
    that never beat it end as they began. With ``checkpoint`` the whole state is written there at every evaluation, and
    a state of the same ``identity`` found there is continued exactly. ``report`` is told of every step, ``work`` counts
    and times steps ("step") and validation passes ("validation").

    Raises `TrainError` when there is nothing to train on or the loss is not finite.
    """
    check_windows(train, validation)
    model.eval()
    device = device_of(model)
    held_out = _sample(validation, config.seed, device)
    trainable = {name: parameter for name, parameter in model.named_parameters() if name in rates}
    optimiser = _optimiser(trainable, rates)
    state = _State(trainable=trainable, optimiser=optimiser, identity=dict(identity or {}))
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    work, every = work or Work(), config.evaluate_every
    if state.fit is None:
        with work.timed("validation"):
            base = held_out_score(model, family, held_out, config.batch_size)
        state.fit = Fit(best=_copy(trainable), best_step=0, best_score=base, curve=[(0, math.nan, base)])
        report(0, {"validation_score": base})
    result, losses = state.fit, []
    work.plan(step=config.steps - state.step, validation=-(-config.steps // every) - state.step // every)
    for step in range(state.step, config.steps):
        start, share = time.monotonic(), schedule(step, config.steps, config.warmup_steps)
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            loss = family.loss(model, *draw(train, config, step, device))
        losses.append(_update(loss, step, optimiser, trainable.values(), config.clip_norm))
        work.add("step", time.monotonic() - start)
        figures = {"training_loss": losses[-1], "learning_rate": share * max(rates.values())}
        if (step + 1) % every and step + 1 != config.steps:
            report(step + 1, figures)
            continue
        with work.timed("validation"):
            score = held_out_score(model, family, held_out, config.batch_size)
        result.curve.append((step + 1, sum(losses) / len(losses), score))
        losses = []
        if score < result.best_score:  # false for NaN
            result.best, result.best_step, result.best_score = _copy(trainable), step + 1, score
        state.step = step + 1
        if checkpoint is not None:
            state.save(checkpoint)
        report(step + 1, {**figures, "validation_score": score})
        if step + 1 - result.best_step >= config.patience * every:
            result.stopped_early = True
            work.plan(step=0, validation=0)
            break
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(result.best[name])
    return result


def _optimiser(trainable: Mapping[str, nn.Parameter], rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """Make AdamW with a group for each peak learning rate."""
    groups = [
        {"params": [trainable[name] for name in trainable if rates[name] == peak], "peak": peak}
        for peak in sorted(set(rates.values()))
    ]
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0)


def _update(
    loss: torch.Tensor,
    step: int,
    optimiser: torch.optim.Optimizer,
    parameters: Iterable[nn.Parameter],
    clip_norm: float,
) -> float:
    """Make one step down the gradient of ``loss``; return its value. Raises `TrainError` when it is not finite."""
    value = _finite(loss, step)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch ships this one without types
    torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimiser.step()
    return value


def check_windows(train: Windows, validation: Windows) -> None:
    """Refuse to train on nothing, or to stop by nothing. Raises `TrainError`."""
    if not len(train) or not len(validation):
        raise TrainError(
            f"{len(train)} training and {len(validation)} validation windows: want at least one of each",
            hint="more items, or a smaller context_length, min_observed or prediction_length; for a few long series "
            "--split-by time",
        )


def _finite(loss: torch.Tensor, step: int) -> float:
    """Return the loss's value. Raises `TrainError` when it is not finite."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainError(f"the training loss is {value} at step {step}", hint="lower --learning-rate")
    return value


def schedule(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at ``step``: linear warm-up, then half a cosine down to zero."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def held_out_score(model: nn.Module, family: Objective, held_out: Pair, batch: int) -> float:
    """Return the family's stopping metric on held-out windows; for Chronos-Bolt the WQL that the gate judges by."""
    total = size = 0.0
    with torch.no_grad():
        for start in range(0, len(held_out[0]), 4 * batch):
            loss, count = family.score(model, *(part[start : start + 4 * batch] for part in held_out))
            total, size = total + loss, size + count
    return total / size if size else math.nan


def draw(windows: Windows, config: TrainConfig, step: int, device: torch.device) -> Pair:
    """Draw one step's windows."""
    chosen = np.random.default_rng([config.seed, step]).integers(0, len(windows), config.batch_size)
    return _tensors(windows, chosen, device)


def _sample(windows: Windows, seed: int, device: torch.device) -> Pair:
    """Draw the windows to stop early by."""
    count = min(len(windows), VALIDATION_WINDOWS)
    return _tensors(windows, np.sort(np.random.default_rng(seed).permutation(len(windows))[:count]), device)


def _tensors(windows: Windows, chosen: np.ndarray[Any, np.dtype[np.int64]], device: torch.device) -> Pair:
    context, target = torch.from_numpy(windows.context[chosen]), torch.from_numpy(windows.target[chosen])
    return context.to(device), target.to(device)


def _copy(trainable: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Copy the trainable parameters."""
    return {name: parameter.detach().clone() for name, parameter in trainable.items()}


@dataclass(kw_only=True)
class _State:
    """Everything a killed run needs to go on as if nothing had happened."""

    trainable: dict[str, nn.Parameter]
    optimiser: torch.optim.Optimizer
    identity: dict[str, Any]  # configuration, data and base: what makes it the same run
    step: int = 0
    fit: Fit | None = None

    def save(self, path: Path) -> None:
        """Write the state whole or not at all."""
        assert self.fit is not None
        buffer = io.BytesIO()
        torch.save(
            {
                "identity": self.identity,
                "step": self.step,
                "numbers": _copy(self.trainable),
                "optimiser": self.optimiser.state_dict(),
                "fit": vars(self.fit),
            },
            buffer,
        )
        write_atomic(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        """Continue from ``path``. Raises `TrainError` when it is of another configuration, data or base."""
        saved = read_checkpoint(path, ("identity", "step", "numbers", "optimiser", "fit"))
        other = [key for key, value in self.identity.items() if saved["identity"].get(key) != value]
        if other:
            raise TrainError(
                f"{path} is of a run with another {other[0]}", hint="give another --out, or the same options and data"
            )
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(saved["numbers"][name])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.fit = saved["step"], Fit(**saved["fit"])
