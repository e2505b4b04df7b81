"""The parameters of several adapters as stacked tensors, their losses in one pass, and one optimiser for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from edge_tsfm.models.family import Family
from edge_tsfm.training.course import Course, draw, make_optimiser, put, set_rates


class Losses(nn.Module):
    """The family's loss as a function of some parameters, of one adapter's batch."""

    def __init__(self, model: nn.Module, family: Family) -> None:
        super().__init__()
        self.model, self._family = model, family

    def forward(self, context: Tensor, target: Tensor) -> Tensor:
        """Return the loss of contexts ``[B, L]`` and targets ``[B, H]``."""
        return self._family.loss(self.model, context, target)

    def of(self, parameters: Mapping[str, Tensor], context: Tensor, target: Tensor) -> Tensor:
        """Return the losses ``[K]`` of stacked parameters ``[K, ...]`` and batches ``[K, B, L]``, ``[K, B, H]``."""

        def one(own: dict[str, Tensor], context: Tensor, target: Tensor) -> Tensor:
            loss: Tensor = functional_call(
                self, {f"model.{name}": value for name, value in own.items()}, (context, target)
            )
            return loss

        device = context.device
        bfloat16 = torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
        # The fused kernels of attention have no rule for vmap, which would call them adapter by adapter.
        with _MaskedAssignment(), sdpa_kernel(SDPBackend.MATH), bfloat16:
            losses: Tensor = vmap(one)(dict(parameters), context, target)
        return losses


class _MaskedAssignment(TorchFunctionMode):
    """Does ``x[mask] = number`` without asking how many places the mask has, which vmap cannot answer."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replace that one assignment; chronos-forecasting's models put zeros in the place of missing targets so."""
        if func is Tensor.__setitem__ and isinstance(args[1], Tensor) and args[1].dtype == torch.bool:
            args[0].masked_fill_(args[1], args[2])
            return None
        return func(*args, **(kwargs or {}))


class Stack:
    """The parameters of several courses at the same step as tensors ``[K, ...]``, with one optimiser for all."""

    def __init__(self, courses: Sequence[Course]) -> None:
        self._courses = courses
        first = courses[0]
        self._config, self._step = first.config, first.step
        self.parameters = {
            name: torch.stack([one.trainable[name].detach() for one in courses]).requires_grad_()
            for name in first.trainable
        }
        self._optimiser = make_optimiser(self.parameters, first.rates)
        for name, parameter in self.parameters.items():
            states = [one.optimiser.state[one.trainable[name]] for one in courses if one.step]
            if states:
                self._optimiser.state[parameter] = {
                    key: value.clone() if key == "step" else torch.stack([state[key] for state in states])
                    for key, value in states[0].items()
                }

    def step(self, loss: Losses) -> list[float]:
        """Make one step of every course; return their losses. One that is not finite spoils its own parameters only."""
        device = next(iter(self.parameters.values())).device
        batches = [draw(one.train, one.config, self._step, device) for one in self._courses]
        contexts, targets = (torch.stack(part) for part in zip(*batches, strict=True))
        losses = loss.of(self.parameters, contexts, targets)
        for parameter, gradient in zip(
            self.parameters.values(), torch.autograd.grad(losses.sum(), list(self.parameters.values())), strict=True
        ):
            parameter.grad = gradient
        self._clip()
        set_rates(self._optimiser, self._step, self._config)
        self._optimiser.step()
        self._step += 1
        return losses.tolist()

    def hand_back(self) -> None:
        """Give every course its parameters and its part of the optimiser's state."""
        for place, one in enumerate(self._courses):
            put(one.trainable, {name: parameter.detach()[place] for name, parameter in self.parameters.items()})
            for name, parameter in self.parameters.items():
                one.optimiser.state[one.trainable[name]] = {
                    key: value.clone() if key == "step" else value[place].clone()
                    for key, value in self._optimiser.state[parameter].items()
                }

    def _clip(self) -> None:
        """Clip every course's gradient by its own norm, as `torch.nn.utils.clip_grad_norm_` does for one."""
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        norms = torch.stack([one.flatten(1).norm(dim=1) for one in gradients]).norm(dim=0)  # [K]
        share = (self._config.clip_norm / (norms + 1e-6)).clamp(max=1.0)
        for one in gradients:
            one.mul_(share.view(-1, *[1] * (one.dim() - 1)))
