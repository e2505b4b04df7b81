"""What is minimised: quantile loss for Chronos-Bolt, cross-entropy over bins for Chronos-T5.

Targets that become very large after scaling: both families divide by a scale taken from the context. A constant
context has scale zero (Chronos-Bolt then divides by 1e-5, and a target one unit away becomes 100,000): such
rows carry no information and are left out. A nearly constant context gives finite but huge scaled targets, which
are clipped at ``target_clip`` standard deviations of the context. The gradient of a quantile
loss is bounded by the number of values, not by their size, so the clip protects the reported loss and the bf16
arithmetic rather than the optimiser.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_tsfm.models.bolt import Bolt
from edge_tsfm.models.family import family_of
from edge_tsfm.models.t5 import T5
from edge_tsfm.research.pretraining.config import OptimiserConfig
from edge_tsfm.research.pretraining.corpus import Batch

MIN_OBSERVED = 3  # values in a context; fewer define no scale worth learning from


def step_weights(length: int, exponent: float, device: torch.device) -> Tensor:
    """Weights of the target's steps, mean one: near steps matter most, far ones carry most noise."""
    weight = torch.arange(1, length + 1, device=device, dtype=torch.float32).pow(-exponent)
    return weight / weight.mean()


def batch_loss(model: Any, batch: Batch, config: OptimiserConfig) -> Tensor:
    """Mean loss per scored value of one batch, a scalar; the family follows from the model."""
    loss = {Bolt.name: bolt_loss, T5.name: t5_loss}[family_of(model)]
    return loss(model, batch, config)


def bolt_loss(model: Any, batch: Batch, config: OptimiserConfig) -> Tensor:
    """Quantile loss on the scaled target, mean over levels; twice the pinball loss, as chronos-forecasting
    counts it.
    """
    context, target = batch.context, batch.target
    hidden, (loc, scale), embedded, mask = model.encode(context=context)
    output = model.output_patch_embedding(model.decode(embedded, mask, hidden)).float()
    rows, length = target.shape
    levels: Tensor = model.quantiles.float().view(1, -1, 1)
    quantiles = output.view(rows, levels.shape[1], -1)[..., :length]  # [B, Q, H]
    scaled = ((target - loc) / scale).clamp(-config.target_clip, config.target_clip)
    usable = (scale > 1e-5 * (1 + loc.abs())) & ((~context.isnan()).sum(1, keepdim=True) >= MIN_OBSERVED)
    weight = (~target.isnan() & usable).float() * step_weights(length, config.near_weight, target.device)  # [B, H]
    error = scaled.nan_to_num(0.0)[:, None] - quantiles
    pinball = 2 * torch.maximum(levels * error, (levels - 1) * error).mean(dim=1)  # [B, H]
    loss: Tensor = (pinball * weight).sum() / weight.sum().clamp(min=1.0)
    return loss


def t5_loss(model: Any, batch: Batch, config: OptimiserConfig) -> Tensor:
    """Cross-entropy of the target's bins under teacher forcing; bins and scale exactly as
    MeanScaleUniformBins.
    """
    tokens, mask, labels = tokenise(model.config.chronos_config, batch)
    logits = model(input_ids=tokens, attention_mask=mask, decoder_input_ids=_shift_right(labels)).logits.float()
    length = labels.shape[1]
    weight = (labels != 0).float() * step_weights(length, config.near_weight, labels.device)
    nats = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(-1, length)
    return (nats * weight).sum() / weight.sum().clamp(min=1.0)


def tokenise(chronos_config: dict[str, Any], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Context tokens with end token [B, L + 1], their mask, target tokens [B, H] with 0 where nothing is
    scored.
    """
    from chronos import ChronosConfig

    tokenizer = ChronosConfig(**chronos_config).create_tokenizer()
    tokens, mask, scale = tokenizer.context_input_transform(batch.context.cpu())
    labels, _, _ = tokenizer._input_transform(batch.target.cpu(), scale)
    labels[(mask[:, :-1].sum(1) < MIN_OBSERVED)] = 0
    device = batch.context.device
    return tokens.to(device), mask.to(device), labels.to(device)


def _shift_right(labels: Tensor) -> Tensor:
    """The decoder sees the start token (0), then every target but the last."""
    return torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], dim=1)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that learn."""
    return [p for p in model.parameters() if p.requires_grad]
