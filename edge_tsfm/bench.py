"""The device runtime against the torch pipeline, on one machine in one run: ratios, not boasts.

Timings are taken in blocks in turn (torch, runtime, torch, runtime …), so that a machine that slows down slows both,
with a pause between them, so that neither's idle threads take the other's cores. The runtime is timed twice: with
waiting threads asleep, as it leaves the factory, and spinning, as torch does. Start-up and memory are taken in
processes of their own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from device_runtime.bundle import Bundle
from device_runtime.forecaster import Forecaster
from device_runtime.session import SessionSettings
from edge_tsfm.errors import ConfigError
from edge_tsfm.models import Base

# What the work cannot go under: multiply-adds at the rate one large product reaches here, and weights read once.
PRODUCT_SIZE = 1_024
TIMED = ("chronos-bolt", "chronos-t5")
BLOCK = 50  # calls in a row: caches and clock settle within the first few
SLOW_BLOCK = 5  # of a family whose forecast takes hundreds of times as long
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
class Timing:
    """Median milliseconds of both, and how many times faster the runtime is."""

    torch_ms: float
    runtime_ms: float

    @property
    def ratio(self) -> float:
        """Torch over runtime."""
        return self.torch_ms / self.runtime_ms


def forecast_timing(base: Base, bundle: Bundle, case: Case, settings: SessionSettings, runs: int) -> Timing:
    """Time forecasts of one case, both with as many threads (and a Chronos-T5 with as many samples)."""
    torch.set_num_threads(settings.threads)
    pipeline = torch_pipeline(base)
    forecaster = Forecaster.open(bundle, settings=settings)
    context = np.random.default_rng(0).normal(80, 10, (case.batch, case.context_length)).astype(np.float32)
    tensor = torch.from_numpy(context)
    torch_ms, runtime_ms = in_turn(
        lambda: pipeline.predict_quantiles(tensor, prediction_length=case.prediction_length),
        lambda: forecaster.forecast(context, case.prediction_length),
        runs,
        block=SLOW_BLOCK if base.family == "chronos-t5" else BLOCK,
    )
    return Timing(torch_ms=torch_ms, runtime_ms=runtime_ms)


def torch_pipeline(base: Base) -> Any:
    """Return chronos-forecasting's own pipeline around a base of one of the families that are `TIMED`."""
    from chronos import ChronosBoltPipeline, ChronosPipeline
    from chronos.chronos import ChronosConfig, ChronosModel

    if base.family == "chronos-bolt":
        return ChronosBoltPipeline(base.model)
    config = ChronosConfig(**base.model.config.chronos_config)
    return ChronosPipeline(config.create_tokenizer(), ChronosModel(config=config, model=base.model))


def check_timed(family: str, *, profiled: bool) -> None:
    """Raise `ConfigError` for a family that is not timed, or not profiled, before anything slow begins."""
    if family not in TIMED:
        raise ConfigError(f"bench: {family} is not timed", hint=f"it times {' and '.join(TIMED)}")
    if profiled and family != "chronos-bolt":
        raise ConfigError(f"bench --profile: {family} is not one run of one graph", hint="it profiles chronos-bolt")


def cases(bundle: Bundle) -> list[Case]:
    """Return what is timed of a bundle's family, no context longer than its own."""
    longest = bundle.manifest.context_length
    if bundle.manifest.family == "chronos-t5":
        return [
            Case(context_length=min(longest, context), prediction_length=steps)
            for context, steps in ((72, 36), (512, 64))
        ]
    return [Case(batch=batch, context_length=min(longest, 512), prediction_length=64) for batch in (1, 32)]


def in_turn(first: Callable[[], Any], second: Callable[[], Any], runs: int, block: int = BLOCK) -> tuple[float, float]:
    """Time two functions in alternating blocks, the first call of each block not counted: median milliseconds."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(-(-runs // block)):
        for function, taken in zip((first, second), times, strict=True):
            time.sleep(SETTLE_S)
            function()
            for _ in range(block):
                start = time.perf_counter()
                function()
                taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[0]), statistics.median(times[1])


def floor_ms(bundle: Bundle, *, context_length: int, batch: int, threads: int) -> float:
    """Estimate the least time a forecast's matrix products take here, in milliseconds.

    Counts two operations for each encoder weight and patch, and divides by the rate of one large float32 product.
    """
    size = int(bundle.manifest.parameters["patch_size"])
    patches = -(-context_length // size) + 1
    work = 0
    for entry in bundle.manifest.tensors:
        if len(entry.shape) == 2 and "relative" not in entry.name:
            per_patch = entry.name.startswith(("encoder.", "input_patch"))
            work += 2 * entry.size * batch * (patches if per_patch else 1)
    torch.set_num_threads(threads)
    a = torch.randn(PRODUCT_SIZE, PRODUCT_SIZE)
    _, ms = in_turn(lambda: None, lambda: a @ a, 20)
    return work / (2 * PRODUCT_SIZE**3) * ms


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
from device_runtime.forecaster import Forecaster
Forecaster.open(sys.argv[1], *sys.argv[2:]).forecast([80.0 + i % 5 for i in range(512)])
"""
TORCH_START = """
import sys, torch
from chronos import BaseChronosPipeline
pipeline = BaseChronosPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32)
pipeline.predict_quantiles(torch.tensor([80.0 + i % 5 for i in range(512)]), prediction_length=64)
"""
IMPORT_CHRONOS = "import chronos"


def run_bench(
    base: Base, folder: Path, bundle: Bundle, adapter: Path | None, *, threads: int, runs: int
) -> Mapping[str, Any]:
    """Take every figure of a bundle's family; ``folder`` is the base for the torch pipeline."""
    forecasts = {}
    for case in cases(bundle):
        floor = None  # known for one product after the other, of weights that the tensor table lists
        if bundle.manifest.family == "chronos-bolt" and bundle.manifest.precision == "float32":
            floor = floor_ms(bundle, context_length=case.context_length, batch=case.batch, threads=threads)
        for name, spinning in ((str(case), False), (f"{case}, spinning", True)):
            settings = SessionSettings(threads=threads, spinning=spinning)
            timing = forecast_timing(base, bundle, case, settings, runs)
            forecasts[name] = {
                "torch_ms": timing.torch_ms,
                "runtime_ms": timing.runtime_ms,
                "ratio": timing.ratio,
                "floor_ms": floor,
            }
    activation = []
    for _ in range(5):
        start = time.perf_counter()
        Forecaster.open(bundle.path, adapter)
        activation.append((time.perf_counter() - start) * 1e3)
    return {
        "threads": threads,
        "precision": bundle.manifest.precision,
        "bundle_mb": sum(file.size for file in bundle.manifest.files.values()) / 1e6,
        "forecast": forecasts,
        "activation_ms": min(activation),
        "start_to_first_forecast": {
            "runtime": process_figures(RUNTIME_START, [str(bundle.path), *([str(adapter)] if adapter else [])]),
            "torch pipeline": process_figures(TORCH_START, [str(folder)]),
            "import chronos": process_figures(IMPORT_CHRONOS, []),
        },
    }
