"""Forecast times of several bases × precisions in one run, saved line by line, so that a stopped run goes on.

Every ratio is of two timings taken in turn (`edge_tsfm.research.bench`); no time is compared across lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from device_runtime.binder import bind
from device_runtime.documents import read_json
from device_runtime.files import write_atomic
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.session import SessionSettings
from device_runtime.processor import this_processor
from edge_tsfm.errors import ConfigError
from edge_tsfm.models import Base
from edge_tsfm.research.bench import (
    RUNTIME_START,
    TORCH_START,
    Case,
    Spread,
    activation,
    cases,
    floor_ms,
    forecast_timing,
    process_figures,
)
from edge_tsfm.research.idle import Others

SCHEMA = "edge-tsfm bench-table 1"
LIBRARIES = ("onnxruntime", "torch", "chronos-forecasting", "numpy")


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """One shape of forecast, timed in turn: the torch pipeline's time over the runtime's is ``ratio``."""

    case: str
    batch: int
    spinning: bool  # whether the runtime's waiting threads spin, as torch's do
    torch: Spread
    runtime: Spread
    floor_ms: float | None  # what the matrix products alone take; None where it is not known

    @property
    def ratio(self) -> float:
        """How many times faster the runtime is."""
        return self.torch.median / self.runtime.median


@dataclass(frozen=True, kw_only=True)
class Line:
    """One base in one precision."""

    base: str
    family: str
    precision: str
    bundle_mb: float
    activation: Spread
    start_s: float  # to the first forecast, in a process of its own
    memory_mb: float
    torch_start_s: float
    torch_memory_mb: float
    others: float | None  # share of the processors' time that other processes took meanwhile; None: not known
    forecasts: tuple[Forecasts, ...]

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the others of a table."""
        return self.base, self.precision


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all lines of a table share; times under another setting do not belong into the same table."""

    threads: int
    runs: int
    keep: str | None = None  # what adapters of other precisions than float32 may change; None: the default
    batches: tuple[int, ...] = ()  # contexts in a run; none: each family's own
    processor: str = field(default_factory=lambda: str(this_processor()))
    libraries: Mapping[str, str] = field(default_factory=lambda: {name: version(name) for name in LIBRARIES})


@dataclass(frozen=True, kw_only=True)
class BenchTable:
    """Lines timed under one setting."""

    setting: Setting
    lines: tuple[Line, ...] = ()

    def having(self, line: Line) -> BenchTable:
        """Return the table with one more line."""
        return BenchTable(setting=self.setting, lines=(*self.lines, line))

    def save(self, path: Path) -> None:
        """Write the table as JSON, whole or not at all."""
        ratios = [{"ratios": [one.ratio for one in line.forecasts]} for line in self.lines]
        lines = [asdict(line) | more for line, more in zip(self.lines, ratios, strict=True)]
        document = {"schema": SCHEMA, "setting": asdict(self.setting), "lines": lines}
        write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())


def continued(path: Path, setting: Setting) -> BenchTable:
    """Read the table that an earlier run left at ``path``, or begin one.

    Raises `ConfigError` for a file that is no such table, and for one of another setting: another processor, other
    libraries, threads, runs, batches or tensors to keep.
    """
    if not path.exists():
        return BenchTable(setting=setting)
    hint = "name another --out"
    document = read_json(path, error=ConfigError, hint=hint)
    if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
        raise ConfigError(f"{path}: not a table of bench-table", hint=hint)
    found = bind(BenchTable, document, str(path), error=ConfigError, ignore_unknown=True)  # ratios follow from the rest
    for name in ("processor", "libraries", "threads", "runs", "keep", "batches"):
        before, now = (_said(getattr(one, name)) for one in (found.setting, setting))
        if before != now:
            raise ConfigError(
                f"{path}: was timed with {name} {before}, this run has {now}", hint="name another --out, or remove it"
            )
    return found


def _said(value: object) -> object:
    """Name what was left to the default."""
    return ", ".join(map(str, value)) or "the default" if isinstance(value, tuple) else value or "the default"


def measured(
    base: Base,
    folder: Path,
    bundles: Mapping[str, Callable[[], Bundle]],
    table: BenchTable,
) -> Iterator[Line]:
    """Time one base's precisions that ``table`` does not have yet, one line after the other.

    ``folder`` is the base for the torch pipeline; ``bundles`` makes the bundle of each precision when its turn has
    come.
    """
    name, torch_start = base.bundle_name, dict[str, float]()
    for precision, made in bundles.items():
        if (name, precision) in {line.key for line in table.lines}:
            continue
        bundle = made()
        others = Others()
        torch_start = torch_start or process_figures(TORCH_START, [str(folder)])
        runtime_start = process_figures(RUNTIME_START, [str(bundle.path)])
        forecasts = tuple(_forecasts(base, bundle, table.setting))
        yield Line(
            base=name,
            family=base.family,
            precision=precision,
            bundle_mb=sum(file.size for file in bundle.manifest.files.values()) / 1e6,
            activation=activation(bundle),
            start_s=runtime_start["seconds"],
            memory_mb=runtime_start["peak_memory_mb"],
            torch_start_s=torch_start["seconds"],
            torch_memory_mb=torch_start["peak_memory_mb"],
            others=others.share(),
            forecasts=forecasts,
        )


def _forecasts(base: Base, bundle: Bundle, setting: Setting) -> Iterator[Forecasts]:
    """Time every case, with waiting threads asleep and spinning."""
    for case in chosen(cases(bundle), setting.batches):
        floor = floor_ms(bundle, case, threads=setting.threads) if bundle.manifest.precision == "float32" else None
        for spinning in (False, True):
            settings = SessionSettings(threads=setting.threads, spinning=spinning)
            timing = forecast_timing(base, bundle, case, settings, setting.runs)
            yield Forecasts(
                case=f"{case.context_length} → {case.prediction_length}",
                batch=case.batch,
                spinning=spinning,
                torch=timing.torch,
                runtime=timing.runtime,
                floor_ms=floor,
            )


def chosen(known: Sequence[Case], batches: Sequence[int]) -> list[Case]:
    """Return a family's cases, or each of its lengths at every one of ``batches``."""
    if not batches:
        return list(known)
    lengths = dict.fromkeys((case.context_length, case.prediction_length) for case in known)
    return [
        Case(batch=batch, context_length=context, prediction_length=steps)
        for context, steps in lengths
        for batch in batches
    ]
