"""How fast series are generated and trained on, to see whether the trainer waits for the generator."""

from __future__ import annotations

import time
from typing import Any

import torch

from edge_tsfm.research.pretraining.build import build_model
from edge_tsfm.research.pretraining.config import PretrainConfig
from edge_tsfm.research.pretraining.corpus import draw_batch
from edge_tsfm.research.pretraining.objective import batch_loss


def measure_pace(config: PretrainConfig, *, device: str | None = None, steps: int = 24) -> dict[str, Any]:
    """Time both halves of ``steps`` training steps on one device, after two to warm up.

    Returns:
        series per second of the generator and of forward plus backward, their ratio, and the device.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if config.threads:
        torch.set_num_threads(config.threads)
    model = build_model(config).to(place).train()
    generating = learning = 0.0
    series = 0
    for step in range(steps + 2):
        before = _now(place)
        batch = draw_batch(config.corpus, step, device=place)
        drawn = _now(place)
        with torch.autocast(place.type, torch.bfloat16, enabled=config.optimiser.bf16):
            loss = batch_loss(model, batch, config.optimiser)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships no types for it
        model.zero_grad()
        if step >= 2:
            generating += drawn - before
            learning += _now(place) - drawn
            series += len(batch.context)
    return {
        "generator_series_per_second": round(series / generating),
        "trainer_series_per_second": round(series / learning),
        "generator_times_faster": round(learning / generating, 1),
        "device": str(place),
        "threads": torch.get_num_threads(),
    }


def _now(place: torch.device) -> float:
    """Wall time with the device's queue empty."""
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    return time.perf_counter()
