"""The configuration of a training run: every option once, from defaults, a TOML file and the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from device_runtime.binder import bind
from device_runtime.documents import read_toml
from device_runtime.series.options import MIN_OBSERVED
from edge_tsfm.data import Dataset, season_steps
from edge_tsfm.data.clock import parse_interval
from edge_tsfm.data.options import DataOptions
from edge_tsfm.errors import ConfigError, as_data_errors
from edge_tsfm.models.base import DEFAULT_BASE
from edge_tsfm.options import CONTEXT_LENGTH, PREDICTION_LENGTH, SEEDED, Options


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DataOptions, Options):
    """One run: how the data are read, what its method may choose, and the rest. Lengths are in steps."""

    data: str
    target: str | None = None
    split_by: str = "item"  # or "time": of series too few to be split by item
    block_length: int | None = None  # by time: steps that intervals draw together; a context when left out
    season: str | None = None  # a span (1d) or steps: the simple baselines get a seasonal one
    base: str = DEFAULT_BASE
    method: str = "fourierft"
    context_length: int = CONTEXT_LENGTH
    prediction_length: int = PREDICTION_LENGTH
    min_observed: int = MIN_OBSERVED
    train_stride: int = 6
    steps: int = 800
    batch_size: int = 256
    learning_rate: float | None = None  # the method's own
    learning_rate_factor: float = 1.0  # on top: a combination's members keep their proportions
    warmup_steps: int = 50
    clip_norm: float = 1.0
    evaluate_every: int = 50
    patience: int = 8  # evaluations without a better validation score before training stops
    gate_windows: int = 10_000  # the gate judges by at most so many, drawn by the seed
    validation_stride: int | None = None  # steps between windows that stop or judge; left out: `validation_step`
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        with as_data_errors():
            self.check()
        positive = ("context_length", "prediction_length", "min_observed", "train_stride", "steps", "batch_size")
        for name in (*positive, "evaluate_every", "patience", "gate_windows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: want at least 1, got {getattr(self, name)}")
        if self.validation_stride is not None and self.validation_stride < 1:
            raise ConfigError(f"validation_stride: want at least 1, got {self.validation_stride}")
        if self.split_by not in ("item", "time"):
            raise ConfigError(f"split_by: want item or time, got {self.split_by!r}")
        if self.season is not None and not self.season.isdigit():
            parse_interval(self.season)
        if self.block_length is not None and self.split_by == "item":
            raise ConfigError("block_length is for split_by = 'time'", hint="by item, intervals draw whole items")
        if self.block_length is not None and self.block_length < self.prediction_length:
            raise ConfigError(
                f"block_length {self.block_length} is shorter than prediction_length {self.prediction_length}"
            )
        for name in ("n_frequency", "rank", "learning_rate", "learning_rate_factor", "scaling", "alpha", "clip_norm"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name}: want a positive number, got {value}")
        for name in ("warmup_steps", "seed", "entries_seed"):
            if not 0 <= getattr(self, name) < 2**32:
                raise ConfigError(f"{name}: want 0 to 2^32 - 1, got {getattr(self, name)}")
        for one in fields(Options):
            choices, got = one.metadata["choices"], getattr(self, one.name)
            if choices and got not in choices:
                wanted = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
                raise ConfigError(f"{one.name}: want {wanted}, got {got!r}")
        if self.biases == "added" and "bitfit" not in self.method.split("+"):
            raise ConfigError(f"biases: {self.method} trains none", hint="added biases belong to bitfit")
        if self.entries != SEEDED and "fourierft" not in self.method.split("+"):
            raise ConfigError(f"entries: {self.method} has none to choose", hint="entries belong to fourierft")

    @property
    def reading(self) -> DataOptions:
        """How the data are read."""
        return DataOptions(**{one.name: getattr(self, one.name) for one in fields(DataOptions)})

    @property
    def validation_step(self) -> int:
        """Steps between windows that stop training or are the gate's: a third of the prediction length, overlapping.

        From the same patients more forecasts are seen, and a run is judged with less noise (docs/adr/0007). Intervals
        draw whole patients, so what overlaps stays together. Blocks of time would not keep it together: by time,
        targets do not overlap.
        """
        if self.validation_stride is not None:
            return self.validation_stride
        return max(1, self.prediction_length // 3) if self.split_by == "item" else self.prediction_length

    @property
    def options(self) -> Options:
        """The method's part."""
        return Options(**{field.name: getattr(self, field.name) for field in fields(Options)})

    def season_of(self, dataset: Dataset) -> int | None:
        """Return the season in steps of ``dataset``; none was asked for: None.

        Raises `ConfigError` for one that is not whole steps, or longer than a context.
        """
        if self.season is None:
            return None
        steps = season_steps(self.season, dataset.interval)
        if steps > self.context_length:
            raise ConfigError(
                f"season {self.season}: {steps} steps do not fit a context of {self.context_length}",
                hint="leave season out, or take a longer context_length",
            )
        return steps

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> TrainConfig:
        """Read what `to_dict` wrote; ``where`` names the file in errors. Raises `ConfigError`."""
        lists = {"target_modules": values.get("target_modules") or None, "where": values.get("where") or ()}
        return bind(cls, {**values, **lists}, where, error=ConfigError)


def load_config(path: Path | None, overrides: dict[str, Any]) -> TrainConfig:
    """Make a configuration: defaults, then the TOML file, then what the command line gave (``None``, ``()``: not).

    The file's ``data`` is looked for beside the file. Raises `ConfigError` for a file that is not TOML, a key that is
    not known, a value of another kind, or a run without data.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = read_toml(path, error=ConfigError)
        if isinstance(values.get("data"), str) and "\0" not in values["data"]:
            values["data"] = str((path.parent / values["data"]).resolve())
    given = {key: value for key, value in overrides.items() if value not in (None, ())}
    where = str(path or "") if path is None or not given else f"{path} and the command line"
    values |= given
    if "data" not in values:
        raise ConfigError("no data to train on", hint="give a file or folder: edge-tsfm train DATA --target MAP")
    return TrainConfig.from_dict(values, where)
