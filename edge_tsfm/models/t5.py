"""Chronos-T5 as chronos-forecasting defines it: values as tokens, forecasts as sampled paths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SAMPLING_SEED = 0
CONTEXTS_AT_ONCE = 128  # each becomes as many sequences as there are samples
IGNORED = -100  # the label that T5's loss leaves out


class T5:
    """Token cross-entropy for training; quantiles of sampled paths for forecasts."""

    name = "chronos-t5"
    stopping_metric = "cross-entropy"

    def loss(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of the observed target tokens, in nats; at least one must be observed."""
        loss: Tensor = self._teach(model, context, target).loss
        return loss

    def outputs(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return what the weights say about each target token before it is drawn: logits ``[B, H, V]``."""
        logits: Tensor = self._teach(model, context, target).logits
        return logits

    def score(self, model: Any, context: Tensor, target: Tensor) -> tuple[float, float]:
        """Return the summed cross-entropy and the number of observed target tokens: sampling would add its noise."""
        count = float(torch.isfinite(target).sum())
        return float(self.loss(model, context, target)) * count, count

    def quantiles(self, model: Any, context: Tensor, prediction_length: int) -> Tensor:
        """Forecast ``[B, L]``: ``[B, H, Q]``, quantiles of as many sampled paths as the configuration names.

        The same contexts give the same samples; the caller's random state is left as it was.
        """
        from chronos.chronos import ChronosModel, ChronosPipeline

        config = _config(model)
        pipeline = ChronosPipeline(config.create_tokenizer(), ChronosModel(config=config, model=model))
        levels = torch.tensor(LEVELS)
        parts = []
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(SAMPLING_SEED)
            for some in context.cpu().split(CONTEXTS_AT_ONCE):  # type: ignore[no-untyped-call]  # as torch ships it
                samples = pipeline.predict(some, prediction_length=prediction_length, limit_prediction_length=False)
                parts.append(torch.quantile(samples.float(), levels, dim=1).permute(1, 2, 0))  # [B, H, Q]
        return torch.cat(parts).to(context.device)

    def levels(self, model: Any) -> tuple[float, ...]:
        """Return the levels that `quantiles` reads off the samples."""
        return LEVELS

    def _teach(self, model: Any, context: Tensor, target: Tensor) -> Any:
        """Run the model on a context and its true continuation."""
        config = _config(model)
        tokenizer = config.create_tokenizer()
        tokens, mask, scale = tokenizer.context_input_transform(context.cpu())
        labels, observed, _ = tokenizer._input_transform(target.cpu(), scale)
        labels[~observed] = IGNORED
        if config.use_eos_token and labels.shape[1] == config.prediction_length:
            end = torch.full_like(labels[:, :1], config.eos_token_id)
            end[~observed.any(1)] = IGNORED
            labels = torch.cat([labels, end], dim=1)
        place = model.device
        # T5 shifts the labels for the decoder, with padding in the place of missing ones: as in a context.
        return model(input_ids=tokens.to(place), attention_mask=mask.to(place), labels=labels.to(place))


def _config(model: Any) -> Any:
    """Return chronos-forecasting's view of a model's configuration."""
    from chronos.chronos import ChronosConfig

    return ChronosConfig(**model.config.chronos_config)
