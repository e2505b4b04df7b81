"""How a family is timed: against which pipeline, and at which shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What `bench` asks of a family."""

    cases: tuple[tuple[int, int, int], ...]  # (contexts, their steps, steps to forecast)
    block: int  # calls in a row: caches and clock settle within the first few
    architecture: Callable[[], Any]  # the model's class, for random weights of a published shape
    # chronos-forecasting's own pipeline around a base's model, and around what generates its tokens where that differs.
    pipeline: Callable[[Any, Any], Any]
    series: Callable[[Any], Any] = lambda contexts: contexts  # what the pipeline takes for a tensor ``[B, L]``
