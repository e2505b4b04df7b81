"""How many threads of the processor torch takes to train or to check a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

SMALL = 4_000_000  # parameters: the bundled bases have about 1.9 million, the published tiny shapes 8 million and more


@contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """Run a small model on one thread; torch's own choice for the rest.

    ``OMP_NUM_THREADS`` decides where it is set; ``torch.set_num_threads`` before does not, and holds again afterwards.

    A pass of a small model is hundreds of products of a fraction of a millisecond. Torch's threads meet after each and
    spin while they wait, so a thread that must share its core holds up the rest: on two cores the second thread saves
    a third of the time when nothing else computes, and multiplies it when something does (docs/guides/training.md).
    """
    with one_thread() if sum(p.numel() for p in model.parameters()) < SMALL else nullcontext():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, unless ``OMP_NUM_THREADS`` says otherwise.

    Also right for a large model that forecasts a few windows only, as in the proof of an export: it is bound by reading
    weights, and on two busy cores the waiting threads of chronos-bolt-tiny's shape used ten times what the work did.
    """
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
