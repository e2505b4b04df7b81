"""What a training run is asked to do: every option once, from defaults, a TOML file and the command line."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edge_tsfm.errors import ConfigError
from edge_tsfm.methods import Options
from edge_tsfm.models.base import DEFAULT_BASE


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run. Lengths are in steps of the data's interval."""

    data: str
    target: str | None = None
    id_column: str | None = None
    timestamp_column: str | None = None
    interval: str | None = None
    base: str = DEFAULT_BASE
    method: str = "fourierft"
    preset: str | None = None
    roles: tuple[str, ...] | None = None
    n_frequency: int | None = None
    scaling: float = 150.0
    rank: int | None = None
    alpha: float = 16.0
    norms: str = "all"
    entries_seed: int = 777
    context_length: int = 48
    prediction_length: int = 6
    min_observed: int = 12
    train_stride: int = 6
    steps: int = 800
    batch_size: int = 256
    learning_rate: float | None = None  # the method's own
    warmup_steps: int = 50
    clip_norm: float = 1.0
    evaluate_every: int = 50
    patience: int = 8  # evaluations without a better validation score before training stops
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        positive = ("context_length", "prediction_length", "min_observed", "train_stride", "steps", "batch_size")
        for name in (*positive, "evaluate_every", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: want at least 1, got {getattr(self, name)}")
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ConfigError(f"learning_rate: want a positive number, got {self.learning_rate}")
        if self.norms not in ("all", "attention"):
            raise ConfigError(f"norms: want all or attention, got {self.norms!r}")

    @property
    def options(self) -> Options:
        """The method's part."""
        return Options(**{field.name: getattr(self, field.name) for field in fields(Options)})

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Read what `to_dict` wrote. Raises `ConfigError` for unknown keys."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown key {unknown[0]!r}", hint=f"keys: {', '.join(sorted(known))}")
        roles = values.get("roles")
        try:
            return cls(**{**values, "roles": tuple(roles) if roles else None})
        except TypeError as error:
            raise ConfigError(f"configuration: {error}") from error


def load_config(path: Path | None, overrides: dict[str, Any]) -> TrainConfig:
    """Make a configuration: defaults, then the TOML file, then what the command line gave (``None``: not given).

    Raises `ConfigError` for a file that is not TOML, a key that is not known, or a run without data.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from error
    values |= {key: value for key, value in overrides.items() if value is not None}
    if "data" not in values:
        raise ConfigError("no data to train on", hint="give a file or folder: edge-tsfm train DATA --target MAP")
    return TrainConfig.from_dict(values)
