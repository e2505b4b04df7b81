"""A pre-training run as a TOML file: what is built, what it sees, for how long. Unknown keys are refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import read_toml
from edge_tsfm.errors import ConfigError

FAMILIES = ("chronos-bolt", "chronos-t5")
DEFAULT_GENERATORS = {
    "vital_signs": 0.5,
    "kernel_synth": 0.14,
    "seasonal": 0.18,
    "walks": 0.06,
    "counts": 0.04,
    "machines": 0.08,
}


@dataclass(frozen=True, kw_only=True)
class ShapeConfig:
    """The size of the model, in the words of T5's configuration, and the lengths it is built for."""

    d_model: int = 128
    d_ff: int = 512
    d_kv: int = 64
    num_heads: int = 2
    num_layers: int = 3
    num_decoder_layers: int = 3
    context_length: int = 512
    prediction_length: int = 64
    input_patch_size: int = 16  # chronos-bolt only
    vocabulary: int = 4096  # chronos-t5 only
    bin_limit: float = 15.0  # chronos-t5 only: bins cover ±bin_limit mean absolute contexts
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "d_model",
            "d_ff",
            "d_kv",
            "num_heads",
            "num_layers",
            "num_decoder_layers",
            "prediction_length",
        ):
            _at_least(self, name, 1)
        _at_least(self, "context_length", 16)
        if self.context_length % self.input_patch_size:
            raise ConfigError(
                f"context_length {self.context_length} is no multiple of input_patch_size {self.input_patch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """What is generated: context lengths with their weights and batch sizes, target lengths, generators by
    share.
    """

    seed: int = 0
    context_lengths: tuple[int, ...] = (512, 256, 128, 64, 48, 32, 16)
    context_weights: tuple[float, ...] = (0.2, 0.12, 0.12, 0.14, 0.3, 0.08, 0.04)
    batch_sizes: tuple[int, ...] = (128, 192, 256, 256, 256, 256, 256)
    target_lengths: tuple[int, ...] = (64,)
    target_weights: tuple[float, ...] = (1.0,)
    generators: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_GENERATORS))
    mixup: float = 0.15

    def __post_init__(self) -> None:
        if not len(self.context_lengths) == len(self.context_weights) == len(self.batch_sizes) > 0:
            raise ConfigError("context_lengths, context_weights and batch_sizes must have one length, at least 1")
        if not len(self.target_lengths) == len(self.target_weights) > 0:
            raise ConfigError("target_lengths and target_weights must have one length, at least 1")
        unknown = sorted(set(self.generators) - set(DEFAULT_GENERATORS))
        if unknown or not self.generators:
            raise ConfigError(f"generators: got {unknown or 'none'}, wanted some of {sorted(DEFAULT_GENERATORS)}")
        if not 0 <= self.mixup <= 1:
            raise ConfigError(f"mixup must lie in 0..1, got {self.mixup}")


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW with warm-up, a constant stretch and a final decay to zero (WSD); averaged weights are what is
    kept.
    """

    steps: int = 40_000
    learning_rate: float = 2e-3
    warmup_steps: int = 500
    decay_steps: int = 8_000
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    bf16: bool = True
    target_clip: float = 15.0  # scaled targets beyond ± this many context standard deviations count as this far
    near_weight: float = 0.5  # exponent: step h of the target weighs (h + 1)^-near_weight

    def __post_init__(self) -> None:
        _at_least(self, "steps", 1)
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay must lie in 0..1, got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """One pre-training run."""

    name: str
    family: str = "chronos-bolt"
    seed: int = 0
    threads: int = 0  # CPU threads; 0 leaves torch's own choice
    workers: int = 0  # processes that generate ahead of the trainer
    log_every: int = 100  # steps
    save_every: int = 1000  # steps between checkpoints
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ConfigError(f"family must be one of {', '.join(FAMILIES)}, got {self.family!r}")
        if self.log_every < 1 or self.save_every < 1 or self.save_every % self.log_every:
            raise ConfigError(f"save_every {self.save_every} must be a multiple of log_every {self.log_every}")
        if max(self.corpus.context_lengths) > self.shape.context_length:
            raise ConfigError(
                f"[corpus] context_lengths reach {max(self.corpus.context_lengths)}, "
                f"[shape] context_length is {self.shape.context_length}"
            )
        if max(self.corpus.target_lengths) > self.shape.prediction_length:
            raise ConfigError(
                f"[corpus] target_lengths reach {max(self.corpus.target_lengths)}, "
                f"[shape] prediction_length is {self.shape.prediction_length}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in the TOML file."""
        return dataclasses.asdict(self)


def read_config(path: Path) -> PretrainConfig:
    """Read and check a TOML file.

    Raises:
        ConfigError: the file is missing or malformed, a key is unknown, or a value is of the wrong kind
            or range.
    """
    table = read_toml(path, error=ConfigError, hint="`edge-tsfm pretrain --list` names the built-in ones")
    return config_from(table, where=str(path))


def config_from(table: dict[str, Any], *, where: str) -> PretrainConfig:
    """Build a configuration from plain values; ``where`` names their source in errors. Raises `ConfigError`."""
    return bind(PretrainConfig, table, where, error=ConfigError)


def _at_least(config: Any, name: str, low: int) -> None:
    """Refuse a number below ``low``."""
    value = getattr(config, name)
    if value < low:
        raise ConfigError(f"{name} must be at least {low}, got {value}")
