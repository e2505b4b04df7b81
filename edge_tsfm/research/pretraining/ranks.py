"""Several processes sharing one run: the rank of this one, and the mean of all gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among ``count``; ``accelerator`` is Hugging Face accelerate's, or None alone."""

    rank: int = 0
    count: int = 1
    accelerator: Any = None

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes (nothing to do alone)."""
        if self.accelerator is None:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


ALONE = Ranks()


def ranks_of_launcher() -> Ranks:
    """Join the processes started by ``accelerate launch``; alone when there is one."""
    import os

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    from accelerate import Accelerator

    accelerator = Accelerator()
    return Ranks(rank=accelerator.process_index, count=accelerator.num_processes, accelerator=accelerator)
