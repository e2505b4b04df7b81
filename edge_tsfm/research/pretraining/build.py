"""Build Chronos models of any shape through chronos-forecasting's own classes, so that `from_pretrained`
opens them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from edge_tsfm.models.bolt import Bolt
from edge_tsfm.models.t5 import T5
from edge_tsfm.research.pretraining.config import PretrainConfig, ShapeConfig
from edge_tsfm.research.pretraining.draw import Draw

if TYPE_CHECKING:
    from torch import Tensor, nn

QUANTILE_LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
# Measured, one family at a time: with T5's own 1.0 a small Chronos-Bolt never found out where the latest
# values are (its forecast ignored them after 5,000 steps; with the published configurations' 0.05 it used
# them after 700), while a small Chronos-T5 with tied embeddings learns fastest from 1.0 and the position
# table of `_recency`.
INITIALIZER_FACTOR = {Bolt.name: 0.05, T5.name: 1.0}
_POSITIONS = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
SPECIAL_TOKENS = 2  # pad 0, end of sequence 1: as every published Chronos-T5


def build_model(config: PretrainConfig) -> nn.Module:
    """Build a freshly initialised model; the same seed gives the same weights."""
    torch.manual_seed(config.seed)
    return _BUILDERS[config.family](config.shape, config.seed)


def _t5_config(shape: ShapeConfig, family: str, *, vocabulary: int, **more: Any) -> Any:
    """The part of the configuration that both families share."""
    from transformers import T5Config

    return T5Config(
        vocab_size=vocabulary,
        d_model=shape.d_model,
        d_ff=shape.d_ff,
        d_kv=shape.d_kv,
        num_layers=shape.num_layers,
        num_decoder_layers=shape.num_decoder_layers,
        num_heads=shape.num_heads,
        dropout_rate=shape.dropout_rate,
        feed_forward_proj="relu",
        initializer_factor=INITIALIZER_FACTOR[family],
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        **more,
    )


def _bolt(shape: ShapeConfig, _: int) -> nn.Module:
    """Build a Chronos-Bolt: patches in, quantiles out."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting

    config = _t5_config(shape, Bolt.name, vocabulary=2, reg_token_id=1)
    config.architectures = ["ChronosBoltModelForForecasting"]
    config.chronos_pipeline_class = "ChronosBoltPipeline"
    config.chronos_config = {
        "context_length": shape.context_length,
        "prediction_length": shape.prediction_length,
        "input_patch_size": shape.input_patch_size,
        "input_patch_stride": shape.input_patch_size,
        "quantiles": list(QUANTILE_LEVELS),
        "use_reg_token": True,
    }
    model: nn.Module = ChronosBoltModelForForecasting(config)
    return model


def _t5(shape: ShapeConfig, seed: int) -> nn.Module:
    """Build a Chronos-T5: one token per value; input and output embeddings are one table, as in the published
    models.
    """
    from transformers import T5ForConditionalGeneration

    config = _t5_config(shape, T5.name, vocabulary=shape.vocabulary, tie_word_embeddings=True)
    config.architectures = ["T5ForConditionalGeneration"]
    config.chronos_pipeline_class = "ChronosPipeline"
    config.chronos_config = {
        "tokenizer_class": "MeanScaleUniformBins",
        "tokenizer_kwargs": {"low_limit": -shape.bin_limit, "high_limit": shape.bin_limit},
        "context_length": shape.context_length,
        "prediction_length": shape.prediction_length,
        "n_tokens": shape.vocabulary,
        "n_special_tokens": SPECIAL_TOKENS,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "use_eos_token": True,
        "model_type": "seq2seq",
        "num_samples": 20,
        "temperature": 1.0,
        "top_k": 400,  # 50 of 4,096 bins cut the tails: 80 % intervals covered 53 to 67 % instead of 63 to 72 %
        "top_p": 1.0,
    }
    model: nn.Module = T5ForConditionalGeneration(config)
    embedding: Tensor = model.shared.weight.data  # type: ignore[union-attr,assignment]
    embedding[SPECIAL_TOKENS:] = _ordinal_embedding(shape, seed)
    tables: dict[str, Tensor] = {name: p.data for name, p in model.named_parameters()}
    tables["encoder." + _POSITIONS] += _recency(config, both_ways=True)
    tables["decoder." + _POSITIONS] += _recency(config, both_ways=False)
    return model


_BUILDERS = {Bolt.name: _bolt, T5.name: _t5}


def _recency(config: Any, *, both_ways: bool) -> Tensor:
    """Start attention where forecasts come from: nearby values first, [buckets, heads].

    T5's position table, filled so that head k loses 2^-(1 + 3k) nats per step of distance (ALiBi's slopes,
    Press et al. 2022). From a flat table a base this small stays at the distribution of all values for
    thousands of steps.
    """
    from transformers.models.t5.modeling_t5 import T5Attention

    buckets, furthest = config.relative_attention_num_buckets, config.relative_attention_max_distance
    offset = torch.arange(-furthest, furthest + 1 if both_ways else 1)
    bucket = T5Attention._relative_position_bucket(offset, both_ways, buckets, furthest)
    distance = torch.zeros(buckets).index_add(0, bucket, offset.abs().float())
    distance /= torch.bincount(bucket, minlength=buckets).clamp(min=1)  # mean distance of each bucket
    slope = 2.0 ** -(1 + 3 * torch.arange(config.num_heads, dtype=torch.float32))
    return -distance[:, None] * slope


def _ordinal_embedding(shape: ShapeConfig, seed: int) -> Tensor:
    """Start neighbouring bins as neighbours: random Fourier features of the bin centre at widths from 2 to
    2,000 bins.

    A table of independent rows has to learn from data that bin 2100 is next to bin 2101, which takes a small
    base on a short budget most of its steps.
    """
    draw = Draw.at(seed, 7)
    bins = torch.arange(shape.vocabulary - SPECIAL_TOKENS, dtype=torch.float32)[:, None]
    width = draw.log_uniform(2.0, 2000.0, 1, shape.d_model)
    return math.sqrt(2.0) * torch.cos(bins / width + draw.uniform(0, 2 * math.pi, 1, shape.d_model))
