"""The device runtime against the torch pipeline and optimum's, on one machine in one run, as ratios.

Timings alternate in blocks (torch, runtime, optimum, torch …), so that a slower machine slows all of them, with a pause
between blocks, so that the idle threads of one do not take the other's cores. The runtime is timed twice: with waiting
threads asleep, the default, and spinning, as torch does. Start-up and memory are measured in separate processes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.session import SessionSettings, session_options
from device_runtime.format.manifest import Manifest
from device_runtime.processor import this_processor
from edge_tsfm.errors import ConfigError
from edge_tsfm.models import FAMILIES, Base, Family
from edge_tsfm.models.timed import Timed
from edge_tsfm.research.peak import operations_per_ms
from export.families import find_family

# On a busy machine wall time includes waiting; processor time counts only what a forecast used, on all threads.
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
SETTLE_S = 0.2  # for the other's threads to go to sleep


@dataclass(frozen=True, kw_only=True)
class Case:
    """A shape of forecast to time."""

    batch: int = 1
    context_length: int
    prediction_length: int

    def __str__(self) -> str:
        return f"{self.context_length}→{self.prediction_length}, batch {self.batch}"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Timings of one thing in milliseconds: the median, and the quartiles on both sides of it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, times: Sequence[float]) -> Spread:
        """Summarise one timing or more."""
        low, median, high = np.quantile(times, (0.25, 0.5, 0.75))
        return cls(median=float(median), low=float(low), high=float(high))


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds of each, and how many times faster the runtime is."""

    torch: Spread
    runtime: Spread
    optimum: Spread | None = None  # where optimum was timed too

    @property
    def torch_ms(self) -> float:
        """Median of the torch pipeline."""
        return self.torch.median

    @property
    def runtime_ms(self) -> float:
        """Median of the device runtime."""
        return self.runtime.median

    @property
    def optimum_ms(self) -> float | None:
        """Median of optimum."""
        return None if self.optimum is None else self.optimum.median

    @property
    def ratio(self) -> float:
        """Torch over runtime."""
        return self.torch_ms / self.runtime_ms

    @property
    def optimum_ratio(self) -> float | None:
        """Optimum over runtime."""
        return None if self.optimum_ms is None else self.optimum_ms / self.runtime_ms


def forecast_timing(
    base: Base,
    bundle: Bundle,
    case: Case,
    settings: SessionSettings,
    runs: int,
    optimum: Path | None = None,
    clock: str = "wall",
) -> Timing:
    """Time forecasts of one case, all with as many threads (and a Chronos-T5 with as many samples).

    ``optimum`` is a folder of `export_optimum`, to be timed as well; ``clock`` is the name of one of `CLOCKS`.
    """
    torch.set_num_threads(settings.threads)
    forecaster = Forecaster.open(bundle, settings=settings)
    context = np.random.default_rng(0).normal(80, 10, (case.batch, case.context_length)).astype(np.float32)
    tensor = timed(base.family).series(torch.from_numpy(context))
    pipelines = [torch_pipeline(base)]
    if optimum is not None:
        pipelines.append(optimum_pipeline(base, optimum, settings))

    def forecasts(pipeline: Any) -> Callable[[], Any]:
        return lambda: pipeline.predict_quantiles(tensor, prediction_length=case.prediction_length)

    in_torch, in_runtime, *others = in_turn(
        [
            forecasts(pipelines[0]),
            lambda: forecaster.forecast(context, case.prediction_length),
            *map(forecasts, pipelines[1:]),
        ],
        runs,
        block=min(runs, timed(base.family).block),
        clock=CLOCKS[clock],
    )
    return Timing(torch=in_torch, runtime=in_runtime, optimum=others[0] if others else None)


def torch_pipeline(base: Base) -> Any:
    """Return chronos-forecasting's own pipeline around a base of a family that is timed."""
    return timed(base.family).pipeline(base.model, base.model)


def optimum_pipeline(base: Base, folder: Path, settings: SessionSettings) -> Any:
    """Return chronos-forecasting's pipeline around optimum's model of a Chronos-T5: its decoder keeps its cache."""
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    options = session_options(settings)
    options.enable_cpu_mem_arena = True  # as optimum's users have it
    model = ORTModelForSeq2SeqLM.from_pretrained(folder, session_options=options, use_cache=True)
    return timed(base.family).pipeline(base.model, model)


def timed(family: str) -> Timed:
    """Return how a family is timed. Raises `ConfigError` for one that is not."""
    known = FAMILIES[family].timed
    if known is None:
        raise ConfigError(f"bench: {family} is not timed", hint=f"it times {_names(lambda one: one.timed is not None)}")
    return known


def check_timed(family: str, *, optimum: bool = False) -> None:
    """Raise `ConfigError` for what is not timed, before anything slow begins."""
    timed(family)
    if optimum and not find_family(family).optimum:
        runs = _names(lambda one: find_family(one.name).optimum)
        raise ConfigError(f"bench --optimum: optimum has no class for {family}", hint=f"it runs {runs}")
    if optimum and not optimum_runs(family):
        raise ConfigError("bench --optimum: optimum is not installed", hint="install edge-tsfm with the extra [export]")


def _names(chosen: Callable[[Family], bool]) -> str:
    """Name the families that are chosen."""
    return " and ".join(name for name, family in FAMILIES.items() if chosen(family))


def optimum_runs(family: str) -> bool:
    """Return whether optimum is here and has a class for a family."""
    here = find_spec("optimum") is not None and find_spec("optimum.onnxruntime") is not None
    return here and find_family(family).optimum


def cases(bundle: Bundle) -> list[Case]:
    """Return what is timed of a bundle's family, no context longer than its own."""
    longest = bundle.manifest.context_length
    return [
        Case(batch=batch, context_length=min(longest, context), prediction_length=steps)
        for batch, context, steps in timed(bundle.manifest.family).cases
    ]


def in_turn(
    functions: Sequence[Callable[[], Any]],
    runs: int,
    block: int = 50,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Spread]:
    """Time functions in alternating blocks, the first call of each block not counted: milliseconds of each.

    ``clock`` is one of `CLOCKS`.
    """
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(-(-runs // block)):
        for function, taken in zip(functions, times, strict=True):
            time.sleep(SETTLE_S)
            function()
            for _ in range(block):
                start = clock()
                function()
                taken.append((clock() - start) * 1e3)
    return [Spread.of(taken) for taken in times]


def floor_ms(bundle: Bundle, case: Case, *, threads: int) -> float | None:
    """Estimate the least time a forecast's matrix products take here, in milliseconds.

    Its `operations` at the rate of the fastest large float32 product; None where they are not known.
    """
    count = operations(bundle.manifest, case)
    if count is None:
        return None
    return count / operations_per_ms(threads)


def operations(manifest: Manifest, case: Case) -> int | None:
    """Count a forecast's operations in products; None where the family's are not known."""
    count = find_family(manifest.family).operations
    return count and count(manifest, case.batch, case.context_length, case.prediction_length)


def activation(bundle: Bundle, adapter: Path | None = None, runs: int = 5) -> Spread:
    """Time opening a bundle with an adapter: check, merge, session, self-test."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        Forecaster.open(bundle.path, adapter)
        times.append((time.perf_counter() - start) * 1e3)
    return Spread.of(times)


def process_figures(code: str, arguments: list[str], runs: int = 3) -> dict[str, float]:
    """Run ``code`` in fresh processes: least seconds until it ended, and its peak memory in MB."""
    # Not getrusage: its peak survives exec, so a child would report its parent's.
    tail = "\nimport re; print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024)"
    seconds, memory = [], 0.0
    for _ in range(runs):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code + tail, *arguments], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - start)
        memory = float(done.stdout.splitlines()[-1])
    return {"seconds": min(seconds), "peak_memory_mb": memory}


RUNTIME_START = """
import os, sys
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
from device_runtime.forecast.forecaster import Forecaster
Forecaster.open(sys.argv[1], *sys.argv[2:]).forecast([80.0 + i % 5 for i in range(512)])
"""
TORCH_START = """
import sys, torch
from chronos import BaseChronosPipeline
pipeline = BaseChronosPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32)
pipeline.predict_quantiles([torch.tensor([80.0 + i % 5 for i in range(512)])], prediction_length=64)
"""
IMPORT_CHRONOS = "import chronos"


def run_bench(
    base: Base,
    folder: Path,
    bundle: Bundle,
    adapter: Path | None,
    *,
    threads: int,
    runs: int,
    optimum: Path | None = None,
    clock: str = "wall",
) -> Mapping[str, Any]:
    """Take every figure of a bundle's family, forecasts by the ``clock`` of that name.

    ``folder`` is the base for the torch pipeline, ``optimum`` the same as `export_optimum` writes it, or None.
    """
    forecasts = {}
    for case in cases(bundle):
        floor = None  # known for float32 products, of weights that the tensor table lists
        if bundle.manifest.precision == "float32":
            floor = floor_ms(bundle, case, threads=threads)
        for name, spinning in ((str(case), False), (f"{case}, spinning", True)):
            settings = SessionSettings(threads=threads, spinning=spinning)
            timing = forecast_timing(base, bundle, case, settings, runs, optimum, clock)
            forecasts[name] = {
                "torch_ms": timing.torch_ms,
                "runtime_ms": timing.runtime_ms,
                "ratio": timing.ratio,
                "optimum_ms": timing.optimum_ms,
                "optimum_ratio": timing.optimum_ratio,
                "floor_ms": floor,
            }
    return {
        "processor": str(this_processor()),
        "threads": threads,
        "clock": clock,
        "precision": bundle.manifest.precision,
        "bundle_mb": sum(file.size for file in bundle.manifest.files.values()) / 1e6,
        "forecast": forecasts,
        "activation_ms": activation(bundle, adapter).median,
        "start_to_first_forecast": {
            "runtime": process_figures(RUNTIME_START, [str(bundle.path), *([str(adapter)] if adapter else [])]),
            "torch pipeline": process_figures(TORCH_START, [str(folder)]),
            "import chronos": process_figures(IMPORT_CHRONOS, []),
        },
    }
