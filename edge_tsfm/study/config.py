"""What a study is asked to compare: one TOML, unknown keys refused."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge_tsfm.errors import ConfigError
from edge_tsfm.evaluation.baselines import BASELINES, SEASONAL
from edge_tsfm.methods import Options, find_method
from edge_tsfm.models.base import DEFAULT_BASE
from edge_tsfm.training.config import READING, TrainConfig

YARDSTICKS = {"nhits": "neuralforecast", "auto_ets": "statsforecast"}  # and the library each needs
METHOD_OPTIONS = tuple(one.name for one in fields(Options))
COLUMNS = tuple(name for name in READING if name not in ("target", "where"))
# What [train] may set for every cell: lengths and budget. The rest is the study's own to vary.
SHARED = tuple(
    one.name
    for one in fields(TrainConfig)
    if one.name not in {"data", "target", "base", "method", "seed", "learning_rate", "learning_rate_factor"}
    and one.name not in (*METHOD_OPTIONS, *COLUMNS)
)
# Rows that are in every table, or may be.
TAKEN = frozenset({"base", "simple", SEASONAL, *BASELINES, *YARDSTICKS})
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
            raise ConfigError(f"search.factors: want at least two different positive numbers, got {self.factors}")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study; see docs/study.md for the keys."""

    data: str
    targets: tuple[str, ...]
    methods: tuple[MethodChoice, ...]
    bases: tuple[str, ...] = (DEFAULT_BASE,)
    seeds: tuple[int, ...] = (0, 1, 2)
    yardsticks: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    search: Search | None = None
    nhits_steps: int = 3_000
    bundle: bool = True
    latency: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be told apart, and everything a run would refuse later."""
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
            raise ConfigError(f"bases: two are called the same: {folders}", hint="rename one's folder")
        unknown = [name for name in self.yardsticks if name not in YARDSTICKS]
        if unknown:
            raise ConfigError(f"no yardstick {unknown[0]!r}", hint=f"yardsticks: {', '.join(YARDSTICKS)}")
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
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    lists = ("targets", "bases", "seeds", "yardsticks")
    _known(values, ("data", *COLUMNS, *lists, "methods", "train", "search", "nhits", "device"), "the study")
    if data is None and "data" in values:
        data = str((path.parent / str(values["data"])).resolve())
    if data is None:
        raise ConfigError(f"{path} names no data", hint="give it: edge-tsfm study STUDY.toml DATA --out OUT")
    given: dict[str, Any] = {name: _list(values[name], name) for name in lists if name in values}
    train, nhits, device = (_table(values, name) for name in ("train", "nhits", "device"))
    _known(train, SHARED, "[train]")
    _known(nhits, ("steps",), "[nhits]")
    _known(device, ("bundle", "latency"), "[device]")
    search = _table(values, "search")
    _known(search, tuple(one.name for one in fields(Search)), "[search]")
    if "factors" in search:
        search["factors"] = tuple(
            _number(factor, "search.factors") for factor in _list(search["factors"], "search.factors")
        )
    for key in ("steps", "batch_size"):
        if key in search:
            search[key] = _whole(search[key], f"search.{key}")
    return StudyConfig(
        data=data,
        targets=given.pop("targets", ()),
        methods=tuple(_method(one) for one in _list(values.get("methods", []), "methods")),
        columns={name: str(values[name]) for name in COLUMNS if name in values},
        train=train,
        search=Search(**search) if "search" in values else None,
        nhits_steps=_whole(nhits.get("steps", StudyConfig.nhits_steps), "nhits.steps"),
        bundle=_flag(device.get("bundle", StudyConfig.bundle), "device.bundle"),
        latency=_flag(device.get("latency", StudyConfig.latency), "device.latency"),
        **given,
    )


def require_libraries(study: StudyConfig) -> None:
    """Raise `ConfigError` when a yardstick's library is missing: before hours of training, not after."""
    for name in study.yardsticks:
        if find_spec(YARDSTICKS[name]) is None:
            raise ConfigError(
                f"yardstick {name} needs {YARDSTICKS[name]}, which is not installed",
                hint="pip install 'edge-tsfm[study]', or leave it out of yardsticks",
            )


def _method(value: Any) -> MethodChoice:
    """Read one of [[methods]], or a plain name."""
    entry = {"method": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else None
    if entry is None or not isinstance(entry.get("method"), str):
        raise ConfigError(f"methods: want a name, or a table with a key method; got {value!r}")
    _known(entry, ("label", "method", *METHOD_OPTIONS), "[[methods]]")
    options = {name: entry[name] for name in METHOD_OPTIONS if name in entry}
    label = entry.get("label", "-".join([entry["method"], *(_short(option) for option in options.values())]))
    if not isinstance(label, str) or not LABEL.fullmatch(label):
        raise ConfigError(f"methods: {label!r} cannot name a row and a folder", hint="letters, digits, . _ + -")
    if label in TAKEN:
        raise ConfigError(f"methods: {label!r} names a row of the table already", hint="give the method another label")
    return MethodChoice(label=label, method=entry["method"], options=options)


def _short(value: Any) -> str:
    return "+".join(value) if isinstance(value, list) else f"{value}"


def _table(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = values.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{name}: want a table, got {table!r}")
    return dict(table)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name}: want true or false, got {value!r}")
    return value


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name}: want a whole number of at least 1, got {value!r}")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name}: want numbers, got {value!r}")
    return float(value)


def _list(value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{name}: want a list, got {value!r}")
    return tuple(value)


def _known(values: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(values) - set(keys))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}", hint=f"keys: {', '.join(sorted(keys))}")
