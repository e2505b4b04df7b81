"""What a study is asked to compare: one TOML, unknown keys refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from device_runtime.binder import Key, bind, check_keys
from device_runtime.documents import read_toml
from device_runtime.nearest import did_you_mean
from device_runtime.renamed import renamed_key
from edge_tsfm.data.options import DataOptions
from edge_tsfm.errors import ConfigError
from edge_tsfm.evaluation.baselines import BASELINES, SEASONAL
from edge_tsfm.methods import find_method
from edge_tsfm.models.base import DEFAULT_BASE
from edge_tsfm.options import Options
from edge_tsfm.training.config import TrainConfig

EXTRA_BASELINES = {"nhits": "neuralforecast", "auto_ets": "statsforecast"}  # and the library each needs
METHOD_OPTIONS = tuple(one.name for one in fields(Options))
COLUMNS = tuple(one.name for one in fields(DataOptions))
# What [train] may set for every cell: lengths and budget. The rest is the study's own to vary.
SHARED = tuple(
    one.name
    for one in fields(TrainConfig)
    if one.name not in {"data", "target", "base", "method", "seed", "learning_rate", "learning_rate_factor"}
    and one.name not in (*METHOD_OPTIONS, *COLUMNS)
)
# Rows that are in every table, or may be.
TAKEN = frozenset({"base", "simple", SEASONAL, *BASELINES, *EXTRA_BASELINES})
LABEL = re.compile(r"[A-Za-z0-9][\w.+-]*")  # a folder's name, too


@dataclass(frozen=True, kw_only=True)
class MethodChoice:
    """A method with its options; ``label`` names its rows and folders."""

    label: str
    method: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Search:
    """Learning rates tried for every method alike: factors of its default, in short runs of the first seed."""

    factors: tuple[float, ...] = (0.3, 1.0, 3.0)
    steps: int = 250
    batch_size: int = 128

    def __post_init__(self) -> None:
        """Refuse a search without a choice."""
        if len(set(self.factors)) != len(self.factors) or len(self.factors) < 2 or min(self.factors) <= 0:
            raise ConfigError(f"factors: want at least two different positive numbers, got {self.factors}")
        if self.steps < 1 or self.batch_size < 1:
            raise ConfigError(f"steps and batch_size: want at least 1, got {self.steps} and {self.batch_size}")


@dataclass(frozen=True, kw_only=True)
class Network:
    """The trained baseline's budget."""

    steps: int = 3_000

    def __post_init__(self) -> None:
        """Refuse a network that is not trained."""
        if self.steps < 1:
            raise ConfigError(f"steps: want at least 1, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class OnDevice:
    """What is exported and timed."""

    bundle: bool = True
    latency: bool = False


@dataclass(frozen=True, kw_only=True)
class MethodTable(Options):
    """One of [[methods]]: a method, its options, and what its rows are called."""

    method: str
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class StudyFile(DataOptions):
    """A study's file, before its values are put together."""

    targets: tuple[str, ...] = ()
    methods: tuple[str | Mapping[str, Any], ...] = ()
    data: str | None = None
    bases: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    baselines: tuple[str, ...] = ()
    train: Mapping[str, Any] = field(default_factory=dict)
    search: Search | None = None
    nhits: Network = field(default_factory=Network)
    device: OnDevice = field(default_factory=OnDevice)


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study; see docs/guides/study.md for the keys."""

    data: str
    targets: tuple[str, ...]
    methods: tuple[MethodChoice, ...]
    bases: tuple[str, ...] = (DEFAULT_BASE,)
    seeds: tuple[int, ...] = (0, 1, 2)
    baselines: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    search: Search | None = None
    nhits_steps: int = 3_000
    bundle: bool = True
    latency: bool = False

    def __post_init__(self) -> None:
        """Refuse ambiguous names, and everything that a run would refuse later."""
        named = {
            "targets": self.targets,
            "bases": self.bases,
            "seeds": self.seeds,
            "methods": [m.label for m in self.methods],
        }
        for name, values in named.items():
            if not values:
                raise ConfigError(f"{name}: want at least one")
            if len(set(values)) != len(values):
                raise ConfigError(f"{name}: the same twice in {list(values)}")
        folders = [Path(base).name for base in self.bases]
        if len(set(folders)) != len(folders):
            raise ConfigError(f"bases: two have the same name: {folders}", hint="rename one's folder")
        unknown = [name for name in self.baselines if name not in EXTRA_BASELINES]
        if unknown:
            meant = did_you_mean(unknown[0], EXTRA_BASELINES)
            raise ConfigError(f"no baseline {unknown[0]!r}", hint=f"{meant}baselines: {', '.join(EXTRA_BASELINES)}")
        for choice in self.methods:
            find_method(choice.method)
            self.run_config(self.bases[0], self.targets[0], choice, self.seeds[0])

    def run_config(
        self, base: str, target: str, choice: MethodChoice, seed: int, factor: float = 1.0, **changes: Any
    ) -> TrainConfig:
        """Return one run's configuration. Raises `ConfigError` for values out of range."""
        values: dict[str, Any] = {
            **self.columns,
            **self.train,
            **choice.options,
            **changes,
            "data": self.data,
            "target": target,
            "base": base,
            "method": choice.method,
            "seed": seed,
            "learning_rate_factor": factor,
        }
        return TrainConfig.from_dict(values)


def load_study(path: Path, data: str | None = None) -> StudyConfig:
    """Read a study; ``data`` wins over the file's, which is looked for beside the file.

    Raises `ConfigError` for what is not TOML, unknown keys, values of another kind, or a study without data.
    """
    values = read_toml(path, error=ConfigError)
    values = renamed_key(values, "yardsticks", "baselines", str(path), error=ConfigError)
    file = bind(StudyFile, values, str(path), error=ConfigError)
    if data is None and file.data is not None:
        data = str((path.parent / file.data).resolve())
    if data is None:
        raise ConfigError(f"{path} names no data", hint="give it: edge-tsfm study STUDY.toml DATA --out OUT")
    check_keys(file.train, SHARED, str(path), error=ConfigError, at=("train",))
    # What a run refuses is refused here, and names this file.
    TrainConfig.from_dict({"data": data, **file.train}, f"{path}: [train]")
    lists = {name: getattr(file, name) for name in ("bases", "seeds", "baselines") if name in values}
    try:
        return StudyConfig(
            data=data,
            targets=file.targets,
            methods=tuple(_method(one, str(path), ("methods", number)) for number, one in enumerate(file.methods)),
            columns={name: values[name] for name in COLUMNS if name in values},
            train=file.train,
            search=file.search,
            nhits_steps=file.nhits.steps,
            bundle=file.device.bundle,
            latency=file.device.latency,
            **lists,
        )
    except ConfigError as error:
        if str(path) in str(error):
            raise
        raise ConfigError(f"{path}: {error}", hint=error.hint) from error


def require_libraries(study: StudyConfig) -> None:
    """Raise `ConfigError` when a baseline's library is missing: before hours of training, not after."""
    for name in study.baselines:
        if find_spec(EXTRA_BASELINES[name]) is None:
            raise ConfigError(
                f"baseline {name} needs {EXTRA_BASELINES[name]}, which is not installed",
                hint="install edge-tsfm with the extra [study], or leave it out of baselines",
            )


def _method(value: str | Mapping[str, Any], where: str, at: Key) -> MethodChoice:
    """Read one of [[methods]], or a plain name."""
    entry = {"method": value} if isinstance(value, str) else dict(value)
    file = bind(MethodTable, entry, where, error=ConfigError, at=at)
    options = {name: entry[name] for name in METHOD_OPTIONS if name in entry}
    label = file.label
    if label is None:
        label = "-".join([file.method, *(_short(option) for option in options.values())])
    if not LABEL.fullmatch(label):
        raise ConfigError(
            f"{where}: methods: {label!r} cannot name a row and a folder", hint="letters, digits, . _ + -"
        )
    if label in TAKEN:
        raise ConfigError(
            f"{where}: methods: {label!r} already names a row of the table", hint="give the method another label"
        )
    return MethodChoice(label=label, method=file.method, options=options)


def _short(value: Any) -> str:
    return "+".join(value) if isinstance(value, list) else f"{value}"
