"""What a base's ``config.json`` must contain, so that a damaged or foreign one gets a clear error before torch sees it.

chronos-forecasting and transformers fill their own classes from it; a value that does not fit ends in a `TypeError` or
an `AttributeError` about some object. Only what both need is checked here: nothing that they can load is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import read_json
from edge_tsfm.errors import ModelError

CONFIG_FILE = "config.json"
LAYERS = 1_024
SIZE = 2**24  # of one dimension
MODEL_TYPE = "t5"  # of every Chronos model that forecasts here


@dataclass(frozen=True, kw_only=True)
class BoltConfig:
    """``chronos_config`` of Chronos-Bolt."""

    context_length: int
    prediction_length: int
    input_patch_size: int
    input_patch_stride: int
    quantiles: tuple[float, ...]
    use_reg_token: bool = False


@dataclass(frozen=True, kw_only=True)
class Chronos2Config:
    """``chronos_config`` of Chronos-2."""

    context_length: int
    output_patch_size: int
    input_patch_size: int
    input_patch_stride: int
    quantiles: tuple[float, ...]
    use_reg_token: bool = False
    use_arcsinh: bool = False
    max_output_patches: int = 1
    time_encoding_scale: int | None = None


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """``chronos_config`` of Chronos-T5."""

    tokenizer_class: str
    tokenizer_kwargs: Mapping[str, Any]
    context_length: int
    prediction_length: int
    n_tokens: int
    n_special_tokens: int
    pad_token_id: int
    eos_token_id: int
    use_eos_token: bool
    model_type: str
    num_samples: int
    temperature: float
    top_k: int
    top_p: float

    def __post_init__(self) -> None:
        """Refuse a vocabulary that no memory holds."""
        _check_size("n_tokens", self.n_tokens)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of the transformer, each of which transformers has a default for."""

    d_model: int | None = None
    d_kv: int | None = None
    d_ff: int | None = None
    num_layers: int | None = None
    num_decoder_layers: int | None = None
    num_heads: int | None = None
    vocab_size: int | None = None
    relative_attention_num_buckets: int | None = None
    relative_attention_max_distance: int | None = None
    dropout_rate: float | None = None
    layer_norm_epsilon: float | None = None
    initializer_factor: float | None = None
    feed_forward_proj: str | None = None
    architectures: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that would only be found out after all memory or hours are spent."""
        for name in ("num_layers", "num_decoder_layers"):
            _check_size(name, getattr(self, name), LAYERS)
        for name in ("d_model", "d_kv", "d_ff", "num_heads", "vocab_size"):
            _check_size(name, getattr(self, name))


def _check_size(name: str, size: int | None, most: int = SIZE) -> None:
    """Raise `ValueError` for a size that no model has; None: left to transformers."""
    if size is not None and not 1 <= size <= most:
        raise ValueError(f"{name}: want 1 to {most:,}, got {size:,}")


PIPELINES: Mapping[str, type] = MappingProxyType(
    {"ChronosPipeline": T5Config, "ChronosBoltPipeline": BoltConfig, "Chronos2Pipeline": Chronos2Config}
)


def check_config(folder: Path, source: str, hint: str) -> None:
    """Refuse a folder whose ``config.json`` is of no Chronos model that can be opened; one without passes.

    Raises `ModelError`.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        return
    where = f"cannot load base {source!r}: {path}"
    try:
        config = read_json(path, error=ModelError)
    except ModelError as error:
        raise ModelError(f"cannot load base {source!r}: {error}", hint=hint) from error
    bind(Architecture, config, where, error=ModelError, ignore_unknown=True)
    model_type = config.get("model_type")
    if model_type != MODEL_TYPE or "chronos_config" not in config:
        what = "no chronos_config" if model_type == MODEL_TYPE else f"model_type {str(model_type)[:80]!r}"
        raise ModelError(f"{where} has {what}: it is no Chronos-T5, Chronos-Bolt or Chronos-2", hint=hint)
    pipeline = config.get("chronos_pipeline_class", "ChronosPipeline")
    if not isinstance(pipeline, str) or pipeline not in PIPELINES:
        raise ModelError(
            f"{where}: chronos_pipeline_class: want one of {', '.join(PIPELINES)}, got {str(pipeline)[:80]!r}",
            hint=hint,
        )
    kind = PIPELINES[pipeline]
    bind(kind, config["chronos_config"], where, error=ModelError, ignore_unknown=True, at=("chronos_config",))
