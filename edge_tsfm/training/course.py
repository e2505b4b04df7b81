"""One run on its way through training: its parameters, what it has seen, and when it stops."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from device_runtime.files import write_atomic
from edge_tsfm.data import Windows
from edge_tsfm.errors import TrainError
from edge_tsfm.training.callbacks import Figures
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.stored import read_checkpoint

Report = Callable[[int, Figures], None]  # step, and what is known of it: `Callback.on_step`
VALIDATION_WINDOWS = 2_048  # a seeded sample is enough to stop early by; the gate judges on `gate_windows`
Pair = tuple[torch.Tensor, torch.Tensor]  # contexts [N, L], targets [N, H]


@dataclass(kw_only=True)
class Fit:
    """What training made: the best parameters and the curve that led there."""

    best: dict[str, torch.Tensor]
    best_step: int
    best_score: float
    curve: list[tuple[int, float, float]] = field(default_factory=list)  # step, training loss, validation score
    stopped_early: bool = False


@dataclass(kw_only=True)
class Course:
    """Everything that a run's training depends on, and a killed run needs to go on as if nothing had happened.

    ``trainable`` are its parameters, each with its peak in ``rates``; ``held_out`` are the windows that stop it.
    ``report`` is told of every step. ``checkpoint`` is where its state is kept, for a run of the same ``identity``.
    """

    config: TrainConfig
    train: Windows
    held_out: Pair
    trainable: Mapping[str, nn.Parameter]
    rates: Mapping[str, float]
    optimiser: torch.optim.Optimizer
    report: Report
    checkpoint: Path | None
    identity: Mapping[str, Any]  # configuration, data and base: what makes it the same run
    step: int = 0
    fit: Fit | None = None
    losses: list[float] = field(default_factory=list)  # since the last validation

    @classmethod
    def begin(
        cls,
        trainable: Mapping[str, nn.Parameter],
        train: Windows,
        validation: Windows,
        config: TrainConfig,
        *,
        rates: Mapping[str, float],
        checkpoint: Path | None = None,
        identity: Mapping[str, Any] | None = None,
        report: Report = lambda *_: None,
    ) -> Course:
        """Return a run before its first step, or where a state of the same ``identity`` in ``checkpoint`` left it.

        Raises `TrainError` when there is nothing to train on, or the state is another run's.
        """
        check_windows(train, validation)
        device = next(iter(trainable.values())).device
        course = cls(
            config=config,
            train=train,
            held_out=_sample(validation, config.seed, device),
            trainable=trainable,
            rates=rates,
            optimiser=make_optimiser(trainable, rates),
            report=report,
            checkpoint=checkpoint,
            identity=dict(identity or {}),
        )
        if checkpoint is not None and checkpoint.exists():
            course._load(checkpoint)
        return course

    @property
    def result(self) -> Fit:
        """What it has come to. The frozen base is the first candidate: `start` makes it."""
        assert self.fit is not None, "a course is started before it is followed"
        return self.fit

    @property
    def ended(self) -> bool:
        """Whether all steps are done, or no validation has been better for too long."""
        return self.step >= self.config.steps or self.result.stopped_early

    @property
    def to_validation(self) -> int:
        """How many steps there are to the next validation."""
        every = self.config.evaluate_every
        return min(every - self.step % every, self.config.steps - self.step)

    @property
    def validations_left(self) -> int:
        """How many validations there are if it does not stop early."""
        every = self.config.evaluate_every
        return -(-self.config.steps // every) - self.step // every

    def start(self, score: float) -> None:
        """Take the frozen base with its validation score as the first candidate."""
        self.fit = Fit(best=_copy(self.trainable), best_step=0, best_score=score, curve=[(0, math.nan, score)])
        self.report(0, {"validation_score": score})

    def advance(self, loss: float, score: float | None = None) -> None:
        """Count a step that had ``loss``; ``score`` is the validation's after a step that `to_validation` counts to."""
        share = schedule(self.step, self.config.steps, self.config.warmup_steps)
        self.losses.append(loss)
        self.step += 1
        figures = {"training_loss": loss, "learning_rate": share * max(self.rates.values())}
        if score is None:
            self.report(self.step, figures)
            return
        self._judge(score)
        self.report(self.step, {**figures, "validation_score": score})

    def leave_best(self) -> None:
        """Put the best parameters in the place of the last."""
        put(self.trainable, self.result.best)

    def _judge(self, score: float) -> None:
        """Take the parameters as the best if they are, decide whether to stop, and keep the state."""
        result = self.result
        result.curve.append((self.step, sum(self.losses) / len(self.losses), score))
        self.losses = []
        if score < result.best_score:  # false for NaN
            result.best, result.best_step, result.best_score = _copy(self.trainable), self.step, score
        result.stopped_early = self.step - result.best_step >= self.config.patience * self.config.evaluate_every
        if self.checkpoint is not None:
            self._save(self.checkpoint)

    def _save(self, path: Path) -> None:
        """Write the state whole or not at all."""
        buffer = io.BytesIO()
        torch.save(
            {
                "identity": dict(self.identity),
                "step": self.step,
                "numbers": _copy(self.trainable),
                "optimiser": self.optimiser.state_dict(),
                "fit": vars(self.result),
            },
            buffer,
        )
        write_atomic(path, buffer.getvalue())

    def _load(self, path: Path) -> None:
        """Continue from ``path``. Raises `TrainError` when it is of another configuration, data or base."""
        saved = read_checkpoint(path, ("identity", "step", "numbers", "optimiser", "fit"))
        other = [key for key, value in self.identity.items() if saved["identity"].get(key) != value]
        if other:
            raise TrainError(
                f"{path} is of a run with another {other[0]}", hint="give another --out, or the same options and data"
            )
        put(self.trainable, saved["numbers"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.fit = saved["step"], Fit(**saved["fit"])


def make_optimiser(trainable: Mapping[str, torch.Tensor], rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """Make AdamW with a group for each peak learning rate."""
    groups = [
        {"params": [trainable[name] for name in trainable if rates[name] == peak], "peak": peak}
        for peak in sorted(set(rates.values()))
    ]
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0)


def set_rates(optimiser: torch.optim.Optimizer, step: int, config: TrainConfig) -> None:
    """Give each group of `make_optimiser` its learning rate at ``step``."""
    share = schedule(step, config.steps, config.warmup_steps)
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share


def schedule(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at ``step``: linear warm-up, then half a cosine down to zero."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def finite(loss: float, step: int) -> float:
    """Return the loss. Raises `TrainError` when it is not finite."""
    if not math.isfinite(loss):
        raise TrainError(f"the training loss is {loss} at step {step}", hint="lower --learning-rate")
    return loss


def check_windows(train: Windows, validation: Windows) -> None:
    """Refuse to train on nothing, or to stop by nothing. Raises `TrainError`."""
    if not len(train) or not len(validation):
        raise TrainError(
            f"{len(train)} training and {len(validation)} validation windows: want at least one of each",
            hint="more items, or a smaller context_length, min_observed or prediction_length; for a few long series "
            "--split-by time",
        )


def draw(windows: Windows, config: TrainConfig, step: int, device: torch.device) -> Pair:
    """Draw one step's windows."""
    chosen = np.random.default_rng([config.seed, step]).integers(0, len(windows), config.batch_size)
    return _tensors(windows, chosen, device)


def put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
    """Write values into parameters of the same names."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


def _sample(windows: Windows, seed: int, device: torch.device) -> Pair:
    """Draw the windows to stop early by."""
    count = min(len(windows), VALIDATION_WINDOWS)
    return _tensors(windows, np.sort(np.random.default_rng(seed).permutation(len(windows))[:count]), device)


def _tensors(windows: Windows, chosen: np.ndarray[Any, np.dtype[np.int64]], device: torch.device) -> Pair:
    context, target = torch.from_numpy(windows.context[chosen]), torch.from_numpy(windows.target[chosen])
    return context.to(device), target.to(device)


def _copy(trainable: Mapping[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Copy the trainable parameters."""
    return {name: parameter.detach().clone() for name, parameter in trainable.items()}
