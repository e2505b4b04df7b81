"""Chronos-T5 as chronos-forecasting defines it: values as tokens, forecasts as sampled paths."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from device_runtime.forecast.families.sampling import uniforms
from edge_tsfm.models.lengths import by_length
from edge_tsfm.models.t5_paths import Draw, merged, sample_tokens, series_at_once
from edge_tsfm.models.timed import Timed

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TAUGHT_AT_ONCE = 64
IGNORED = -100  # the label that T5's loss leaves out


def _t5_class() -> Any:
    """Import transformers' class, which takes seconds, when it is first needed."""
    from transformers import T5ForConditionalGeneration

    return T5ForConditionalGeneration


def _pipeline(model: Any, generates: Any) -> Any:
    """Wrap ``generates``, a model that generates tokens, as a Chronos-T5 pipeline with ``model``'s configuration."""
    from chronos import ChronosPipeline
    from chronos.chronos import ChronosModel

    config = _config(model)
    return ChronosPipeline(config.create_tokenizer(), ChronosModel(config=config, model=generates))


class T5:
    """Token cross-entropy for training; quantiles of sampled paths for forecasts."""

    name = "chronos-t5"
    model_class = "T5ForConditionalGeneration"
    stopping_metric = "cross-entropy"
    # docs/guides/training.md says how they were found.
    rates: Mapping[str, float] = MappingProxyType(
        {"bitfit": 0.18, "fourierft": 0.3, "full": 0.00045, "lora": 0.003, "norms": 0.09, "vera": 0.09}
    )
    timed: Timed | None = Timed(
        cases=((1, 72, 36), (1, 512, 64)),
        block=5,  # a forecast takes hundreds of times as long as one that draws nothing
        architecture=_t5_class,
        pipeline=_pipeline,
    )

    def loss(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of the observed target tokens, in nats; at least one must be observed."""
        nats, count = self._nats(model, context, target)
        return nats / count

    def outputs(self, model: Any, context: Tensor, target: Tensor) -> Tensor:
        """Return what the weights say about each target token before it is drawn: logits ``[B, H, V]``."""
        groups = list(self._teach(model, context, target))
        order = torch.argsort(torch.cat([rows for rows, _, _ in groups]))
        return torch.cat([logits for _, logits, _ in groups])[order]

    def horizon(self, model: Any) -> int:
        """Return the model's own prediction length."""
        return int(model.config.chronos_config["prediction_length"])

    def score(self, model: Any, context: Tensor, target: Tensor) -> tuple[float, float]:
        """Return the summed cross-entropy and the number of observed target tokens: sampling would add its noise."""
        nats, count = self._nats(model, context, target)
        return float(nats), float(count)

    def quantiles(self, model: Any, context: Tensor, prediction_length: int) -> Tensor:
        """Forecast ``[B, L]``: ``[B, H, Q]``, quantiles of as many sampled paths as the configuration names.

        A context's paths are those that the device draws with `context_seed` as its seed: the same alone and in any
        batch, and for every model, so that an adapter and its base are compared at the same random numbers.
        """
        samples = self.samples(model, context, prediction_length)
        return torch.quantile(samples, torch.tensor(LEVELS, device=samples.device), dim=1).permute(1, 2, 0)

    def samples(self, model: Any, context: Tensor, prediction_length: int) -> Tensor:
        """Draw the paths ``[B, S, H]`` that `quantiles` are read off, in the context's unit.

        Beyond the model's own prediction length the medians so far are appended to the context, as in
        ``ChronosPipeline.predict`` (chronos-forecasting 2.3).
        """
        config = _config(model)
        context = context[:, -config.context_length :].cpu()
        out = context.new_empty(len(context), config.num_samples, prediction_length)
        model = merged(model)
        steps = min(prediction_length, config.prediction_length)
        with torch.inference_mode():
            for rows, some in by_length(context, series_at_once(model, config.num_samples, steps)):
                out[rows] = _paths(model, config, some, prediction_length)
        return out.to(model.device)

    def levels(self, model: Any) -> tuple[float, ...]:
        """Return the levels that `quantiles` reads off the samples."""
        return LEVELS

    def seed(self, context: NDArray[np.float32]) -> int:
        """Return `context_seed`."""
        return context_seed(context)

    def _nats(self, model: Any, context: Tensor, target: Tensor) -> tuple[Tensor, int]:
        """Return the summed cross-entropy of the observed target tokens and how many they are."""
        nats, count = [], 0
        for _, logits, labels in self._teach(model, context, target):
            flat = logits.flatten(0, 1), labels.flatten()
            nats.append(functional.cross_entropy(*flat, ignore_index=IGNORED, reduction="sum"))
            count += int((labels != IGNORED).sum())
        return torch.stack(nats).sum(), count

    def _teach(self, model: Any, context: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Run the model on contexts and their true continuations, a group of like length at a time.

        Yields the rows ``[b]`` of each group, logits ``[b, H, V]`` and labels ``[b, H]``.
        """
        config = _config(model)
        tokenizer = config.create_tokenizer()
        place = model.device
        # A GPU gains nothing by shorter contexts and loses by more, smaller steps.
        at_once = TAUGHT_AT_ONCE if place.type == "cpu" else len(context)
        for rows, some in by_length(context[:, -config.context_length :].cpu(), at_once):
            tokens, mask, scale = tokenizer.context_input_transform(some)
            labels, observed, _ = tokenizer._input_transform(target[rows.to(target.device)].cpu(), scale)
            labels[~observed] = IGNORED
            if config.use_eos_token and labels.shape[1] == config.prediction_length:
                end = torch.full_like(labels[:, :1], config.eos_token_id)
                end[~observed.any(1)] = IGNORED
                labels = torch.cat([labels, end], dim=1)
            labels = labels.to(place)
            # T5 shifts the labels for the decoder, with padding in the place of missing ones: as in a context.
            fed = model.prepare_decoder_input_ids_from_labels(labels)
            out = model(input_ids=tokens.to(place), attention_mask=mask.to(place), decoder_input_ids=fed)
            yield rows, out.logits, labels


def context_seed(context: NDArray[np.float32]) -> int:
    """Return the seed of a context's ``[L]`` paths: a checksum of its values from the first observed one on.

    So draws are independent between windows, where one seed for all would make every window err alike.
    """
    observed = np.flatnonzero(~np.isnan(context))
    values = context[observed[0] :] if len(observed) else context[:0]
    return zlib.crc32(np.where(np.isnan(values), np.float32(np.nan), values).astype("<f4").tobytes())


def _paths(model: Any, config: Any, context: Tensor, prediction_length: int) -> Tensor:
    """Draw the paths ``[b, S, H]`` of a group of contexts ``[b, C]`` of like length."""
    tokenizer = config.create_tokenizer()
    seeds = [context_seed(row) for row in context.numpy()]
    draw = Draw(temperature=config.temperature, top_k=config.top_k, top_p=config.top_p, never=config.eos_token_id)
    blocks: list[Tensor] = []
    done = 0
    while done < prediction_length:
        steps = min(prediction_length - done, config.prediction_length)
        noise = np.stack([uniforms(seed, config.num_samples, done, steps).T for seed in seeds])  # [b, S, steps]
        tokens, mask, scale = tokenizer.context_input_transform(context)
        place = model.device
        drawn = sample_tokens(model, tokens.to(place), mask.to(place), torch.from_numpy(noise).to(place), draw)
        blocks.append(tokenizer.output_transform(drawn.cpu(), scale))
        done += steps
        context = torch.cat([context, blocks[-1].median(dim=1).values], dim=-1)
    return torch.cat(blocks, dim=-1)


def _config(model: Any) -> Any:
    """Return chronos-forecasting's view of a model's configuration."""
    from chronos.chronos import ChronosConfig

    return ChronosConfig(**model.config.chronos_config)
