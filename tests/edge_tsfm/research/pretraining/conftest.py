"""Configurations small enough to train in seconds."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from edge_tsfm.research.pretraining.config import CorpusConfig, OptimiserConfig, PretrainConfig, ShapeConfig


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> Callable[..., PretrainConfig]:
    """A run of d_model 8; keywords change the optimiser."""

    def make(family: str = "chronos-bolt", **optimiser: float) -> PretrainConfig:
        shape = ShapeConfig(
            d_model=8,
            d_ff=16,
            d_kv=4,
            num_heads=2,
            num_layers=1,
            num_decoder_layers=1,
            context_length=32,
            prediction_length=8,
            vocabulary=64,
        )
        corpus = CorpusConfig(
            seed=1,
            context_lengths=(32, 16),
            context_weights=(1.0, 1.0),
            batch_sizes=(16, 16),
            target_lengths=(8,),
            target_weights=(1.0,),
        )
        settings = OptimiserConfig(steps=6, warmup_steps=2, decay_steps=2, bf16=False)
        return PretrainConfig(
            name="tiny",
            family=family,
            threads=1,
            log_every=1,
            save_every=3,
            shape=shape,
            corpus=corpus,
            optimiser=replace(settings, **optimiser),  # type: ignore[arg-type]
        )

    return make
