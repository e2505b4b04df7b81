"""Losses: equal to chronos-forecasting's own where they must be, and unmoved by targets that explode."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from edge_tsfm.research.pretraining.build import build_model
from edge_tsfm.research.pretraining.config import OptimiserConfig, PretrainConfig
from edge_tsfm.research.pretraining.corpus import Batch
from edge_tsfm.research.pretraining.objective import batch_loss, step_weights
from edge_tsfm.research.pretraining.schedule import learning_rate
from tests.support.rounding import ANY_ORDER

Tiny = Callable[..., PretrainConfig]


def plain(config: PretrainConfig) -> OptimiserConfig:
    """Every step weighs the same and nothing is clipped, as in chronos-forecasting."""
    return replace(config.optimiser, near_weight=0.0, target_clip=1e9)


def batch(rows: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(context=torch.randn(rows, 32, generator=generator), target=torch.randn(rows, 8, generator=generator))


def test_bolt_loss_is_the_librarys(tiny: Tiny) -> None:
    config = tiny()
    model = build_model(config)
    got = batch_loss(model, batch(), plain(config))
    theirs = model(context=batch().context, target=batch().target.clone()).loss / 8  # theirs sums over steps
    assert got.item() == pytest.approx(theirs.item(), rel=ANY_ORDER)


def test_t5_loss_is_the_librarys(tiny: Tiny) -> None:
    config = tiny("chronos-t5")
    model = build_model(config)
    from edge_tsfm.research.pretraining.objective import tokenise

    tokens, mask, labels = tokenise(model.config.chronos_config, batch())  # type: ignore[union-attr,arg-type]
    theirs = model(input_ids=tokens, attention_mask=mask, labels=labels).loss
    assert batch_loss(model, batch(), plain(config)).item() == pytest.approx(theirs.item(), rel=ANY_ORDER)


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-t5"])
def test_constant_contexts_and_missing_targets_leave_the_loss_alone(tiny: Tiny, family: str) -> None:
    config = tiny(family)
    model = build_model(config)
    good = batch(4)
    wanted = batch_loss(model, good, config.optimiser).item()
    flat, empty = torch.full((1, 32), 98.0), torch.full((1, 32), torch.nan)
    context = torch.cat([good.context, empty] if family == "chronos-t5" else [good.context, flat, empty])
    target = torch.cat([good.target, torch.full((len(context) - 4, 8), 95.0)])
    assert batch_loss(model, Batch(context=context, target=target), config.optimiser).item() == pytest.approx(
        wanted, rel=ANY_ORDER
    )


def test_a_nearly_constant_context_counts_as_the_clip(tiny: Tiny) -> None:
    config = tiny()
    model = build_model(config)
    context = torch.full((1, 32), 98.0)
    context[0, 3] = 98.1
    loss = batch_loss(model, Batch(context=context, target=torch.full((1, 8), 60.0)), config.optimiser)
    assert loss.item() < 2 * config.optimiser.target_clip


def test_near_steps_weigh_more_and_the_mean_stays_one() -> None:
    weight = step_weights(64, 0.5, torch.device("cpu"))
    assert weight.mean().item() == pytest.approx(1.0)
    assert (weight.diff() < 0).all()


def test_rate_warms_up_stays_and_falls_to_zero() -> None:
    config = OptimiserConfig(steps=100, learning_rate=1.0, warmup_steps=10, decay_steps=20)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert sorted(rates[80:], reverse=True) == rates[80:]
    assert 0 < rates[-1] < 0.05
